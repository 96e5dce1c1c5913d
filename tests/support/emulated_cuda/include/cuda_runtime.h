// Takes the place of CUDA's header where kernels are compiled for the emulated device: plain C++,
// with the language's extensions as macros and functions. The host's interface is CUDA's own
// header.
#pragma once

#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <source_location>
#include <tuple>
#include <utility>

#include "tests/support/emulated_cuda/block.h"
#include "tests/support/emulated_cuda/launch.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
// A block has one thread of the CPU to itself.
#define __shared__ static thread_local
#define __launch_bounds__(...)

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  ::ringbolt::emulated_cuda::block_barrier(where);
}
inline void __syncwarp(unsigned mask = 0xffffffffU,
                       std::source_location where = std::source_location::current()) {
  ::ringbolt::emulated_cuda::warp_barrier(mask, where);
}

namespace ringbolt::emulated_cuda {

template <class T>
T shuffled(unsigned mask, T value, unsigned source, std::source_location where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "what CUDA shuffles has 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(mask, bits, source, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

/// `source` where it lies in this lane's group of `width`, else the lane itself.
inline unsigned within(unsigned source, unsigned width) {
  const unsigned lane = lane_number();
  return source / width == lane / width ? source : lane;
}

}  // namespace ringbolt::emulated_cuda

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              std::source_location where = std::source_location::current()) {
  namespace emulated = ::ringbolt::emulated_cuda;
  const auto w = static_cast<unsigned>(width);
  return emulated::shuffled(
      mask, value, emulated::lane_number() / w * w + static_cast<unsigned>(source) % w, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  std::source_location where = std::source_location::current()) {
  namespace emulated = ::ringbolt::emulated_cuda;
  // CUDA lets a lane read from an earlier group, but not from a later one.
  const auto w = static_cast<unsigned>(width);
  const unsigned lane = emulated::lane_number();
  const unsigned source = lane ^ static_cast<unsigned>(lanes);
  return emulated::shuffled(mask, value, source / w > lane / w ? lane : source, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32,
                   std::source_location where = std::source_location::current()) {
  namespace emulated = ::ringbolt::emulated_cuda;
  const unsigned source = emulated::lane_number() + lanes;
  return emulated::shuffled(mask, value, emulated::within(source, static_cast<unsigned>(width)),
                            where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32,
                 std::source_location where = std::source_location::current()) {
  namespace emulated = ::ringbolt::emulated_cuda;
  const unsigned lane = emulated::lane_number();
  const unsigned source = lanes > lane ? lane : lane - lanes;
  return emulated::shuffled(mask, value, emulated::within(source, static_cast<unsigned>(width)),
                            where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  return ::ringbolt::emulated_cuda::ballot(mask, predicate != 0, where);
}
inline int __any_sync(unsigned mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) == mask ? 1 : 0;
}

template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}

/// As CUDA's template of this name: arguments are converted to the kernel's types, and copied.
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  using Held = std::tuple<Parameters...>;
  struct Call {
    void (*kernel)(Parameters...);
    Held arguments;
  };
  const auto run = [](const void* bound) {
    const Call& call = *static_cast<const Call*>(bound);
    std::apply(call.kernel, call.arguments);
  };
  return ::ringbolt::emulated_cuda::enqueue_kernel(
      *config, reinterpret_cast<const void*>(kernel), run,
      std::make_shared<const Call>(Call{kernel, Held(std::forward<Arguments>(arguments)...)}));
}
