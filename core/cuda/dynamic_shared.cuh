// Shared memory whose size is given at the launch (LaunchShape::shared_bytes).
#pragma once

#include <cuda_runtime.h>

namespace ringbolt::cuda {

/// The block's, aligned to 16 bytes; the same in every call.
template <class T>
__device__ inline T* dynamic_shared() {
  extern __shared__ uint4 memory[];
  return reinterpret_cast<T*>(memory);
}

}  // namespace ringbolt::cuda
