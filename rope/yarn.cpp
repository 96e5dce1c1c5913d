#include "rope/yarn.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "rope/frequencies.h"

namespace ringbolt {
namespace {

/// 0: keep, 1: divide by the factor.
std::vector<double> index_ramp(int64_t dim, const YarnRange& range) {
  std::vector<double> weights;
  for (int64_t i = 0; i < dim / 2; ++i) {
    weights.push_back(
        std::clamp((static_cast<double>(i) - range.low) / (range.high - range.low), 0.0, 1.0));
  }
  return weights;
}

/// 1 - gamma(r) of eq. 18.
std::vector<double> rotations_ramp(const std::vector<double>& frequencies, int64_t length,
                                   const RopeScaling& s) {
  std::vector<double> weights;
  for (const double theta : frequencies) {
    const double rotations = static_cast<double>(length) * theta / (2 * std::numbers::pi);
    weights.push_back(
        1 - std::clamp((rotations - s.beta_slow) / (s.beta_fast - s.beta_slow), 0.0, 1.0));
  }
  return weights;
}

}  // namespace

double yarn_correction(int64_t dim, double base, int64_t original_length, double rotations) {
  const double periods = static_cast<double>(original_length) / (2 * std::numbers::pi * rotations);
  return static_cast<double>(dim) * std::log(periods) / (2 * std::log(base));
}

YarnRange yarn_range(int64_t dim, double base, int64_t original_length, const RopeScaling& s) {
  double low = yarn_correction(dim, base, original_length, s.beta_fast);
  double high = yarn_correction(dim, base, original_length, s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  return {low, high};
}

std::vector<double> yarn_frequencies(int64_t dim, double base, int64_t original_length,
                                     double factor, const RopeScaling& s) {
  std::vector<double> frequencies = default_frequencies(dim, base);
  const std::vector<double> weights =
      s.ramp == YarnRamp::index ? index_ramp(dim, yarn_range(dim, base, original_length, s))
                                : rotations_ramp(frequencies, original_length, s);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = frequencies[i] / factor * weights[i] + frequencies[i] * (1 - weights[i]);
  }
  return frequencies;
}

std::vector<double> part_ntk_frequencies(int64_t dim, double base, int64_t original_length,
                                         double factor) {
  const auto weights = [&](double fast, double slow) {
    RopeScaling ends;
    ends.beta_fast = fast;
    ends.beta_slow = slow;
    return index_ramp(dim, yarn_range(dim, base, original_length, ends));
  };
  const std::vector<double> divide = weights(1.25, 0.75);  // 0: static NTK, 1: divided
  const std::vector<double> change = weights(16, 2);       // 0: kept, 1: either of these
  const std::vector<double> kept = default_frequencies(dim, base);
  std::vector<double> frequencies = default_frequencies(dim, ntk_base(dim, base, factor));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double changed = frequencies[i] * (1 - divide[i]) + kept[i] / factor * divide[i];
    frequencies[i] = kept[i] * (1 - change[i]) + changed * change[i];
  }
  return frequencies;
}

double yarn_mscale(double factor, double m) {
  return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1;
}

double yarn_attention_factor(double factor, const RopeScaling& s) {
  if (s.attention_factor) return *s.attention_factor;
  const double m = s.mscale.value_or(0);
  const double all = s.mscale_all_dim.value_or(0);
  return m != 0 && all != 0 ? yarn_mscale(factor, m) / yarn_mscale(factor, all)
                            : yarn_mscale(factor);
}

}  // namespace ringbolt
