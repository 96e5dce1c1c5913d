// Row kernels of the CPU backend, one table an instruction set.
//
// rowwise_kernels.cpp is compiled once for each; nothing in it may come from a header whose inline
// functions other files use too (see core/base/host_device.h). Every pointer is to contiguous
// elements; kernels work on one row or one run of n elements, and the backend spreads rows over
// threads.
#pragma once

#include <cstdint>

#include "core/base/bf16.h"
#include "core/cpu/isa.h"

namespace ringbolt::cpu {

/// Kernels on activations of type A.
template <class A>
struct ActivationKernels {
  float (*rms_norm_forward)(const A* x, const A* weight, float epsilon, int64_t n,
                            A* y);  ///< returns rstd
  /// dx += …, dweight += …
  void (*rms_norm_backward)(const A* dy, const A* x, const A* weight, float rstd, int64_t n, A* dx,
                            float* dweight);
  /// Pairs turned (sign -1: turned back) and multiplied by `factor`, rounded once.
  void (*rotate_interleaved)(A* x, const float* cos, const float* sin, int64_t pairs, float sign,
                             float factor);
  void (*rotate_half_split)(A* x, const float* cos, const float* sin, int64_t pairs, float sign,
                            float factor);
  /// dangles += the gradients of the angles of one head's pairs
  void (*angles_interleaved)(const A* x, const A* dx, int64_t pairs, float* dangles);
  void (*angles_half_split)(const A* x, const A* dx, int64_t pairs, float* dangles);
  void (*scale)(A* x, float factor, int64_t n);
  void (*swiglu_forward)(const A* gate, const A* up, int64_t n, A* y);
  void (*swiglu_backward)(const A* dy, A* gate, A* up, int64_t n);
  /// gradient = (exp(logit - maximum) * inverse_sum) * scale
  void (*softmax_gradient)(const float* logits, float maximum, float inverse_sum, float scale,
                           int64_t n, A* gradient);
  double (*dot)(const A* x, const A* y,
                int64_t n);  ///< in f32 lanes; the result is for sums of up to 10^5 terms
  void (*add_to)(const A* x, int64_t n, float* sum);  ///< sum += x
  void (*narrow)(const float* x, int64_t n, A* y);
  void (*widen)(const A* x, int64_t n, float* y);
};

struct RowMaximum {
  float value;
  int64_t first_index;
};

struct AdamWFactors {
  float learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale, correction1,
      correction2;
};

struct RowwiseKernels {
  ActivationKernels<float> f32;
  ActivationKernels<bf16> b16;
  RowMaximum (*maximum)(const float* x, int64_t n);
  float (*exp_sum)(const float* x, float maximum, int64_t n);
  double (*sum_of_squares)(const float* x, int64_t n);
  void (*blend)(const float* x, float of_x, float of_y, int64_t n,
                float* y);  ///< y = of_y y + of_x x
  void (*adamw)(const AdamWFactors& f, const float* gradient, int64_t n, float* master, float* m,
                float* v);
};

const RowwiseKernels& rowwise_kernels(Isa isa);

// Each compiled in a file of its own.
const RowwiseKernels& rowwise_kernels_generic();
const RowwiseKernels& rowwise_kernels_avx2();
const RowwiseKernels& rowwise_kernels_avx512();

}  // namespace ringbolt::cpu
