// Errors of the emulated CUDA runtime.
#pragma once

#include <cuda_runtime_api.h>

namespace ringbolt::emulated_cuda {

/// Returns it, and keeps it for cudaGetLastError.
cudaError_t refused(cudaError_t error);

}  // namespace ringbolt::emulated_cuda
