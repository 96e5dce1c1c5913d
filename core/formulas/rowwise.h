// The arithmetic of the row-wise operations, written once: the CPU kernels and the CUDA kernels
// call these. Everything is f32; callers convert. Sources are given with each formula.
#pragma once

#include <cmath>

#include "core/base/host_device.h"
#include "core/formulas/exponential.h"

namespace ringbolt::formulas {

struct Pair {
  float first;
  float second;
};

/// (a, b) turned by the angle with this cosine and sine (RoFormer, arXiv 2104.09864, eq. 34).
RINGBOLT_HD Pair rotate(float a, float b, float cosine, float sine) {
  return {a * cosine - b * sine, a * sine + b * cosine};
}
/// The transposed map: turned back.
RINGBOLT_HD Pair rotate_back(float a, float b, float cosine, float sine) {
  return {a * cosine + b * sine, b * cosine - a * sine};
}

/// The gradient of the angle by which a pair was turned to x, given that of x: d (a, b) / d angle =
/// (-b, a).
RINGBOLT_HD float angle_gradient(float a, float b, float da, float db) { return db * a - da * b; }

RINGBOLT_HD float sigmoid(float x) {
  const float e = exp_f32(-(x < 0 ? -x : x));  // in (0, 1]: never overflows
  const float inverse = 1.0F / (1.0F + e);
  return x < 0 ? e * inverse : inverse;
}

/// silu(g) * u (arXiv 2002.05202, eq. 6).
RINGBOLT_HD float swiglu(float g, float u) { return g * sigmoid(g) * u; }
/// Its gradients by g and u, times dy.
RINGBOLT_HD Pair swiglu_backward(float g, float u, float dy) {
  const float s = sigmoid(g);
  const float silu = g * s;
  return {dy * u * (s + silu * (1.0F - s)), dy * silu};
}

/// dx of y = x * rstd * w, without the term through rstd's own row: see `projection`.
/// projection = mean over the row of dy * w * x * rstd (arXiv 1910.07467, section 4).
RINGBOLT_HD float rms_norm_backward(float dy, float x, float w, float rstd, float projection) {
  return rstd * (dy * w - x * rstd * projection);
}

struct AdamWState {
  float master;
  float m;
  float v;
};

/// One step of AdamW (arXiv 1711.05101, algorithm 2). `correction1` = 1 / (1 - beta1^t),
/// `correction2` likewise.
RINGBOLT_HD AdamWState adamw(AdamWState s, float gradient, float learning_rate, float beta1,
                             float beta2, float epsilon, float weight_decay, float correction1,
                             float correction2) {
  s.m = beta1 * s.m + (1.0F - beta1) * gradient;
  s.v = beta2 * s.v + (1.0F - beta2) * gradient * gradient;
  const float direction = s.m * correction1 / (::sqrtf(s.v * correction2) + epsilon);
  s.master -= learning_rate * (direction + weight_decay * s.master);
  return s;
}

}  // namespace ringbolt::formulas
