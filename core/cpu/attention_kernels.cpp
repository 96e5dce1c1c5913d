// Compiled once an instruction set, with RINGBOLT_ISA naming it. Only headers without shared inline
// functions here.
#include "core/cpu/attention_kernels.h"

#include "core/cpu/attention_backward.inl"
#include "core/cpu/attention_forward.inl"

namespace ringbolt::cpu {
namespace {

template <class In, class Product>
constexpr AttentionKernels kernels_for() {
  return {kForwardColumns,
          Forward<In, Product>::scratch_bytes,
          Forward<In, Product>::run,
          backward_keys,
          kBackwardRows,
          Backward<In, Product>::scratch_bytes,
          Backward<In, Product>::begin,
          Backward<In, Product>::tile,
          Backward<In, Product>::end};
}

template <class Product>
constexpr AttentionKernels kernels_for_codes() {
  AttentionKernels kernels{};
  kernels.forward_columns = kForwardColumns;
  kernels.forward_scratch_bytes = Forward<E4m3, Product>::scratch_bytes;
  kernels.forward = Forward<E4m3, Product>::run;
  return kernels;
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

constexpr AttentionKernelSet kKernels{kernels_for<float, F32Product>(),
                                      kernels_for<Bf16, ProductOfBf16>(),
                                      kernels_for_codes<ProductOfBf16>(), exp2_values};

}  // namespace

#define RINGBOLT_JOIN_(a, b) a##b
#define RINGBOLT_JOIN(a, b) RINGBOLT_JOIN_(a, b)

const AttentionKernelSet& RINGBOLT_JOIN(attention_kernels_, RINGBOLT_ISA)() { return kKernels; }

}  // namespace ringbolt::cpu
