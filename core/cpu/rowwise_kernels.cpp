// Compiled once an instruction set, with RINGBOLT_ISA naming it. Only headers without shared inline
// functions here.
#include "core/cpu/rowwise_kernels.h"

#include "core/base/bf16.h"
#include "core/cpu/vectorize.h"
#include "core/formulas/rowwise.h"

#define RINGBOLT_JOIN_(a, b) a##b
#define RINGBOLT_JOIN(a, b) RINGBOLT_JOIN_(a, b)

namespace ringbolt::cpu {
namespace {

template <class A>
float rms_norm_forward(const A* x, const A* weight, float epsilon, int64_t n, A* y) {
  float squares = 0;
  RINGBOLT_VECTORIZE_SUM(squares)
  for (int64_t i = 0; i < n; ++i) squares += to_float(x[i]) * to_float(x[i]);
  const float rstd = 1.0F / sqrtf(squares / static_cast<float>(n) + epsilon);
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i) y[i] = from_float<A>(to_float(x[i]) * rstd * to_float(weight[i]));
  return rstd;
}

template <class A>
void rms_norm_backward(const A* dy, const A* x, const A* weight, float rstd, int64_t n, A* dx,
                       float* dweight) {
  float sum = 0;
  RINGBOLT_VECTORIZE_SUM(sum)
  for (int64_t i = 0; i < n; ++i) sum += to_float(dy[i]) * to_float(weight[i]) * to_float(x[i]);
  const float projection = sum * rstd / static_cast<float>(n);
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i) {
    const float g = to_float(dy[i]);
    const float xi = to_float(x[i]);
    dweight[i] += g * xi * rstd;
    dx[i] = from_float<A>(to_float(dx[i]) + formulas::rms_norm_backward(g, xi, to_float(weight[i]),
                                                                        rstd, projection));
  }
}

template <class A>
void rotate_interleaved(A* x, const float* cos, const float* sin, int64_t pairs, float sign,
                        float factor) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < pairs; ++i) {
    const auto turned =
        formulas::rotate(to_float(x[2 * i]), to_float(x[2 * i + 1]), cos[i], sign * sin[i]);
    x[2 * i] = from_float<A>(factor * turned.first);
    x[2 * i + 1] = from_float<A>(factor * turned.second);
  }
}

template <class A>
void rotate_half_split(A* x, const float* cos, const float* sin, int64_t pairs, float sign,
                       float factor) {
  A* low = x;
  A* high = x + pairs;
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < pairs; ++i) {
    const auto turned =
        formulas::rotate(to_float(low[i]), to_float(high[i]), cos[i], sign * sin[i]);
    low[i] = from_float<A>(factor * turned.first);
    high[i] = from_float<A>(factor * turned.second);
  }
}

template <class A>
void angles_interleaved(const A* x, const A* dx, int64_t pairs, float* dangles) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < pairs; ++i) {
    dangles[i] += formulas::angle_gradient(to_float(x[2 * i]), to_float(x[2 * i + 1]),
                                           to_float(dx[2 * i]), to_float(dx[2 * i + 1]));
  }
}

template <class A>
void angles_half_split(const A* x, const A* dx, int64_t pairs, float* dangles) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < pairs; ++i) {
    dangles[i] += formulas::angle_gradient(to_float(x[i]), to_float(x[pairs + i]), to_float(dx[i]),
                                           to_float(dx[pairs + i]));
  }
}

template <class A>
void scale(A* x, float factor, int64_t n) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i) x[i] = from_float<A>(to_float(x[i]) * factor);
}

template <class A>
void swiglu_forward(const A* gate, const A* up, int64_t n, A* y) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i)
    y[i] = from_float<A>(formulas::swiglu(to_float(gate[i]), to_float(up[i])));
}

template <class A>
void swiglu_backward(const A* dy, A* gate, A* up, int64_t n) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i) {
    const auto gradient =
        formulas::swiglu_backward(to_float(gate[i]), to_float(up[i]), to_float(dy[i]));
    gate[i] = from_float<A>(gradient.first);
    up[i] = from_float<A>(gradient.second);
  }
}

template <class A>
void softmax_gradient(const float* logits, float maximum, float inverse_sum, float factor,
                      int64_t n, A* gradient) {
  const float both = inverse_sum * factor;
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i)
    gradient[i] = from_float<A>(formulas::exp_f32(logits[i] - maximum) * both);
}

template <class A>
double dot(const A* x, const A* y, int64_t n) {
  float sum = 0;
  RINGBOLT_VECTORIZE_SUM(sum)
  for (int64_t i = 0; i < n; ++i) sum += to_float(x[i]) * to_float(y[i]);
  return static_cast<double>(sum);
}

template <class A>
void add_to(const A* x, int64_t n, float* sum) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i) sum[i] += to_float(x[i]);
}

template <class A>
void narrow(const float* x, int64_t n, A* y) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i) y[i] = from_float<A>(x[i]);
}

template <class A>
void widen(const A* x, int64_t n, float* y) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i) y[i] = to_float(x[i]);
}

RowMaximum maximum(const float* x, int64_t n) {
  float best = x[0];
  RINGBOLT_VECTORIZE_MAX(best)
  for (int64_t i = 0; i < n; ++i) best = x[i] > best ? x[i] : best;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] == best) return {best, i};
  }
  return {best, 0};  // a NaN in the row
}

/// Sums of 1024 in f32, the sums of those in double.
float exp_sum(const float* x, float maximum_value, int64_t n) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += 1024) {
    const int64_t end = begin + 1024 < n ? begin + 1024 : n;
    float sum = 0;
    RINGBOLT_VECTORIZE_SUM(sum)
    for (int64_t i = begin; i < end; ++i) sum += formulas::exp_f32(x[i] - maximum_value);
    total += static_cast<double>(sum);
  }
  return static_cast<float>(total);
}

double sum_of_squares(const float* x, int64_t n) {
  double sum = 0;
  RINGBOLT_VECTORIZE_SUM(sum)
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

void blend(const float* x, float of_x, float of_y, int64_t n, float* y) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i) y[i] = of_y * y[i] + of_x * x[i];
}

void adamw(const AdamWFactors& f, const float* gradient, int64_t n, float* master, float* m,
           float* v) {
  RINGBOLT_VECTORIZE
  for (int64_t i = 0; i < n; ++i) {
    const auto next =
        formulas::adamw({master[i], m[i], v[i]}, gradient[i] * f.gradient_scale, f.learning_rate,
                        f.beta1, f.beta2, f.epsilon, f.weight_decay, f.correction1, f.correction2);
    master[i] = next.master;
    m[i] = next.m;
    v[i] = next.v;
  }
}

template <class A>
constexpr ActivationKernels<A> activation_kernels() {
  return {rms_norm_forward<A>,
          rms_norm_backward<A>,
          rotate_interleaved<A>,
          rotate_half_split<A>,
          angles_interleaved<A>,
          angles_half_split<A>,
          scale<A>,
          swiglu_forward<A>,
          swiglu_backward<A>,
          softmax_gradient<A>,
          dot<A>,
          add_to<A>,
          narrow<A>,
          widen<A>};
}

}  // namespace

const RowwiseKernels& RINGBOLT_JOIN(rowwise_kernels_, RINGBOLT_ISA)() {
  static constexpr RowwiseKernels kernels = {activation_kernels<float>(),
                                             activation_kernels<bf16>(),
                                             maximum,
                                             exp_sum,
                                             sum_of_squares,
                                             blend,
                                             adamw};
  return kernels;
}

}  // namespace ringbolt::cpu
