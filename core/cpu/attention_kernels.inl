// The attention kernels of the instruction set that the including file is compiled for.
//
// The including file defines RINGBOLT_ATTENTION_KERNELS, the name of its table.
#include "core/cpu/attention_kernels.h"
#include "core/cpu/simd.h"

#include "core/cpu/attention_tile.inl"

#include "core/cpu/attention_forward.inl"

#include "core/cpu/attention_backward.inl"

namespace ringbolt::cpu {
namespace {

template <class In, class Product>
constexpr AttentionKernels kernels_for() {
  return {kForwardColumns,
          Forward<In, Product>::scratch_bytes,
          Forward<In, Product>::run,
          kBackwardKeys,
          kBackwardRows,
          Backward<In, Product>::scratch_bytes,
          Backward<In, Product>::begin,
          Backward<In, Product>::tile,
          Backward<In, Product>::end};
}

void exp2_values(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    float lanes[kLanes] = {};
    const int64_t count = n - i < kLanes ? n - i : kLanes;
    for (int64_t j = 0; j < count; ++j) lanes[j] = x[i + j];
    store(lanes, exp2(load(lanes)));
    for (int64_t j = 0; j < count; ++j) y[i + j] = lanes[j];
  }
}

#if defined(__AVX512BF16__)
using ProductOfBf16 = Bf16Product;
#else
using ProductOfBf16 = F32Product;
#endif

}  // namespace

constexpr AttentionKernelSet RINGBOLT_ATTENTION_KERNELS{kernels_for<float, F32Product>(),
                                                        kernels_for<Bf16, ProductOfBf16>(), exp2_values};

}  // namespace ringbolt::cpu
