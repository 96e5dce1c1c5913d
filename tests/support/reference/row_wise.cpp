#include "tests/support/reference/row_wise.h"

#include <algorithm>
#include <cmath>

namespace ringbolt::reference {

RmsNorm rms_norm_forward(const Values& x, const Values& weight, double epsilon, int64_t tokens,
                         int64_t hidden) {
  RmsNorm result{zeros(tokens * hidden), zeros(tokens)};
  for (int64_t t = 0; t < tokens; ++t) {
    const double* in = row(x, t, hidden);
    const double rstd =
        1.0 / std::sqrt(dot(in, in, hidden) / static_cast<double>(hidden) + epsilon);
    double* out = row(result.y, t, hidden);
    for (int64_t e = 0; e < hidden; ++e) out[e] = in[e] * rstd * weight.data()[e];
    result.rstd.data()[t] = rstd;
  }
  return result;
}

RmsNormGradients rms_norm_backward(const Values& dy, const Values& x, const Values& weight,
                                   double epsilon, int64_t tokens, int64_t hidden) {
  const Values rstd = rms_norm_forward(x, weight, epsilon, tokens, hidden).rstd;
  RmsNormGradients g{zeros(tokens * hidden), zeros(hidden)};
  for (int64_t t = 0; t < tokens; ++t) {
    const double r = rstd.data()[t];
    const double* in = row(x, t, hidden);
    const double* up = row(dy, t, hidden);
    // y_i = x_i r w_i and dr/dx_j = -r^3 x_j / E.
    double through_rstd = 0;  // sum over i of dy_i x_i w_i
    for (int64_t i = 0; i < hidden; ++i) through_rstd += up[i] * in[i] * weight.data()[i];
    for (int64_t j = 0; j < hidden; ++j) {
      const double drstd = -r * r * r * in[j] / static_cast<double>(hidden);
      row(g.dx, t, hidden)[j] = up[j] * r * weight.data()[j] + through_rstd * drstd;
      g.dweight.data()[j] += up[j] * in[j] * r;
    }
  }
  return g;
}

namespace {
double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
}  // namespace

Values swiglu_forward(const Values& gate_up, int64_t tokens, int64_t ffn) {
  Values y = zeros(tokens * ffn);
  for (int64_t t = 0; t < tokens; ++t) {
    const double* gate = row(gate_up, t, 2 * ffn);
    const double* up = gate + ffn;
    for (int64_t f = 0; f < ffn; ++f) row(y, t, ffn)[f] = gate[f] * sigmoid(gate[f]) * up[f];
  }
  return y;
}

Values swiglu_backward(const Values& dy, const Values& gate_up, int64_t tokens, int64_t ffn) {
  Values dgate_up = zeros(tokens * 2 * ffn);
  for (int64_t t = 0; t < tokens; ++t) {
    const double* gate = row(gate_up, t, 2 * ffn);
    const double* up = gate + ffn;
    double* dgate = row(dgate_up, t, 2 * ffn);
    double* dup = dgate + ffn;
    for (int64_t f = 0; f < ffn; ++f) {
      const double s = sigmoid(gate[f]);
      const double silu = gate[f] * s;
      const double dsilu = s + gate[f] * s * (1.0 - s);
      const double upstream = row(dy, t, ffn)[f];
      dgate[f] = upstream * up[f] * dsilu;
      dup[f] = upstream * silu;
    }
  }
  return dgate_up;
}

CrossEntropy cross_entropy(const Values& logits, std::span<const int32_t> targets,
                           double gradient_scale, int64_t vocab) {
  const auto tokens = static_cast<int64_t>(targets.size());
  CrossEntropy result{zeros(tokens), std::vector<int32_t>(targets.size(), 0),
                      zeros(tokens * vocab)};
  for (int64_t t = 0; t < tokens; ++t) {
    const int32_t target = targets[static_cast<size_t>(t)];
    if (target < 0) continue;
    const double* z = row(logits, t, vocab);
    const double* largest = std::max_element(z, z + vocab);  // the first of equals
    double denominator = 0;
    for (int64_t j = 0; j < vocab; ++j) denominator += std::exp(z[j] - *largest);
    double* gradient = row(result.gradient, t, vocab);
    for (int64_t j = 0; j < vocab; ++j) {
      const double probability = std::exp(z[j] - *largest) / denominator;
      gradient[j] = gradient_scale * (probability - (j == target ? 1.0 : 0.0));
    }
    const double loss = std::log(denominator) + *largest - z[target];
    result.losses.data()[t] = loss;
    result.hits[static_cast<size_t>(t)] = largest - z == target ? 1 : 0;
    result.total += loss;
    ++result.counted;
  }
  return result;
}

void adamw(const AdamWStep& step, const Values& gradient, Values& weight, Values& m, Values& v) {
  const double beta1 = static_cast<double>(step.beta1);
  const double beta2 = static_cast<double>(step.beta2);
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(step.step));
  const double correction2 = 1.0 - std::pow(beta2, static_cast<double>(step.step));
  for (size_t i = 0; i < weight.size(); ++i) {
    const double g = static_cast<double>(step.gradient_scale) * gradient[i];
    m[i] = beta1 * m[i] + (1.0 - beta1) * g;
    v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
    const double update =
        (m[i] / correction1) / (std::sqrt(v[i] / correction2) + static_cast<double>(step.epsilon));
    const double decay = static_cast<double>(step.weight_decay) * weight[i];
    weight[i] -= static_cast<double>(step.learning_rate) * (update + decay);
  }
}

}  // namespace ringbolt::reference
