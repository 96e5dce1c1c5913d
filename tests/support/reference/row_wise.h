// Reference of the row-wise formulas: RMSNorm, SwiGLU, cross entropy, AdamW.
#pragma once

#include <span>

#include "core/backend/backend.h"
#include "tests/support/reference/values.h"

namespace ringbolt::reference {

struct RmsNorm {
  Values y;     ///< (T, E) = x * rstd * weight
  Values rstd;  ///< (T) = 1 / sqrt(mean(x^2) + epsilon)
};
/// RMSNorm, arXiv 1910.07467, equation 4, with epsilon under the root.
RmsNorm rms_norm_forward(const Values& x, const Values& weight, double epsilon, int64_t tokens,
                         int64_t hidden);

struct RmsNormGradients {
  Values dx;       ///< (T, E)
  Values dweight;  ///< (E)
};
RmsNormGradients rms_norm_backward(const Values& dy, const Values& x, const Values& weight,
                                   double epsilon, int64_t tokens, int64_t hidden);

/// y (T, F) = silu(g) * u, gate_up (T, 2F) = (g, u). arXiv 2002.05202.
Values swiglu_forward(const Values& gate_up, int64_t tokens, int64_t ffn);
/// d gate_up (T, 2F) from dy (T, F).
Values swiglu_backward(const Values& dy, const Values& gate_up, int64_t tokens, int64_t ffn);

struct CrossEntropy {
  Values losses;              ///< (T): -log softmax(logits)[target], 0 where the target is negative
  std::vector<int32_t> hits;  ///< (T): 1 where the target is the first largest logit
  Values gradient;            ///< (T, V): gradient_scale * d(sum of losses)/d(logits)
  double total = 0;           ///< sum of losses
  int64_t counted = 0;        ///< targets that are not negative
};
CrossEntropy cross_entropy(const Values& logits, std::span<const int32_t> targets,
                           double gradient_scale, int64_t vocab);

/// One AdamW update in place (arXiv 1711.05101, algorithm 2, with a constant schedule multiplier).
void adamw(const AdamWStep& step, const Values& gradient, Values& weight, Values& m, Values& v);

}  // namespace ringbolt::reference
