#include "tests/support/reference/e4m3.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ringbolt::reference {
namespace {

/// Codes 0 to 126 in the order of their values, which is that of the codes.
int nearest_code(double magnitude) {
  int best = 0;
  for (int code = 1; code <= 126; ++code) {
    const double distance = std::abs(value_of_code(code) - magnitude);
    const double least = std::abs(value_of_code(best) - magnitude);
    if (distance < least || (distance == least && code % 2 == 0)) best = code;
  }
  return best;
}

constexpr double kWeightScale = 256;

/// What a weight is rounded to, and how far an f32 kernel's may be from it.
struct RoundedWeight {
  double value;
  double slack;
};

RoundedWeight round_weight(double weight) {
  constexpr double kError =
      2e-5;  // of a weight in f32: its logit's, some tens times 2^-23, and the exponential's
  constexpr double kSmall = 0x1p-14;
  const double value = round_e4m3(weight * kWeightScale) / kWeightScale;
  double slack = 0;
  for (const double moved : {weight * (1 - kError), weight * (1 + kError)}) {
    slack = std::max(slack, std::abs(round_e4m3(moved * kWeightScale) / kWeightScale - value));
  }
  if (weight < kSmall) slack += 0x1p-17;
  return {value, slack};
}

}  // namespace

double value_of_code(int code) {
  const int exponent = code / 8 % 16;
  const int significand = code % 8;
  const double sign = code < 128 ? 1 : -1;
  if (exponent == 15 && significand == 7) return std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * significand * 0x1p-9;
  return sign * std::ldexp(1 + significand / 8.0, exponent - 7);
}

double round_e4m3(double x) {
  if (std::isnan(x)) return x;
  return std::copysign(value_of_code(nearest_code(std::min(std::abs(x), 448.0))), x);
}

double e4m3_scale(const Values& x) {
  double largest = 0;
  for (const double value : x) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  double scale = 1;
  if (largest == 0) return scale;
  while (largest / scale > 448) scale *= 2;
  while (largest / scale <= 224) scale /= 2;
  return scale;
}

Values rounded_e4m3(const Values& x, double scale) {
  Values result;
  for (const double value : x) result.push_back(round_e4m3(value / scale) * scale);
  return result;
}

E4m3Attention attention_forward_e4m3(SliceList slices, const Values& q, const Values& k,
                                     const Values& v, double scale, const AttentionShape& shape,
                                     const Values* centres) {
  const int64_t d = shape.head_dim;
  E4m3Attention result{zeros(shape.queries * shape.heads * d), zeros(shape.queries * shape.heads),
                       zeros(shape.queries * shape.heads * d)};
  for (int64_t i = 0; i < shape.queries; ++i) {
    const std::vector<int64_t> keys = visible_keys(slices, i);
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t kv_head = h / (shape.heads / shape.kv_heads);
      const int64_t query = i * shape.heads + h;
      Values logits, shared;  // in units of log2; the part of each that is its centre's
      const auto product = [&](const Values& x, int64_t j) {
        return scale / std::log(2.0) *
               dot(row(q, query, d), row(x, j * shape.kv_heads + kv_head, d), d);
      };
      for (const int64_t j : keys) {
        logits.push_back(product(k, j));
        shared.push_back(centres == nullptr ? 0.0 : product(*centres, j));
      }
      result.lse[static_cast<size_t>(query)] = -std::numeric_limits<double>::infinity();
      if (keys.empty()) continue;
      const double most = *std::max_element(logits.begin(), logits.end());
      const double base = std::ceil(most);
      double total = 0;
      for (const double logit : logits) total += std::exp2(logit - base);
      result.lse[static_cast<size_t>(query)] = base * std::log(2.0) + std::log(total);
      for (size_t n = 0; n < keys.size(); ++n) {
        const double own_base = std::ceil(most - shared[n]) + shared[n];
        RoundedWeight weight = round_weight(std::exp2(logits[n] - own_base));
        weight.value *= std::exp2(own_base - base);
        weight.slack *= std::exp2(own_base - base);
        const double* value = row(v, keys[n] * shape.kv_heads + kv_head, d);
        add_scaled(weight.value / total, value, row(result.out, query, d), d);
        for (int64_t e = 0; e < d; ++e)
          row(result.slack, query, d)[e] += weight.slack / total * std::abs(value[e]);
      }
    }
  }
  return result;
}

void round_output(E4m3Attention& attention, double value_scale) {
  constexpr double kError = 1e-6;  // of an output in f32, beside values of about 1
  for (size_t i = 0; i < attention.out.size(); ++i) {
    const auto rounded = [&](double x) { return round_e4m3(x / value_scale) * value_scale; };
    const double value = rounded(attention.out[i]);
    const double by = attention.slack[i] + kError;
    attention.slack[i] = std::max(std::abs(rounded(attention.out[i] - by) - value),
                                  std::abs(rounded(attention.out[i] + by) - value));
    attention.out[i] = value;
  }
}

}  // namespace ringbolt::reference
