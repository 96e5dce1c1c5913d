// Takes the place of core/cuda/dynamic_shared.cuh on the emulated device.
#pragma once

#include <cuda_runtime.h>

namespace ringbolt::cuda {

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(::ringbolt::emulated_cuda::dynamic_shared_memory);
}

}  // namespace ringbolt::cuda
