// The way of a kernel from its launch to the queue of a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <utility>

namespace ringbolt::emulated_cuda {

/// call(arguments.get()) is one thread of the kernel. `kernel` is its address: what the launch is
/// known by. Returns what CUDA would where the configuration is not one.
cudaError_t enqueue_kernel(const cudaLaunchConfig_t& config, const void* kernel,
                           void (*call)(const void*), std::shared_ptr<const void> arguments);

}  // namespace ringbolt::emulated_cuda
