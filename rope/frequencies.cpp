#include "rope/frequencies.h"

#include <cmath>

namespace ringbolt {

std::vector<double> default_frequencies(int64_t dim, double base) {
  std::vector<double> frequencies(static_cast<size_t>(dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
  }
  return frequencies;
}

std::vector<double> linear_frequencies(int64_t dim, double base, double factor) {
  std::vector<double> frequencies = default_frequencies(dim, base);
  for (double& frequency : frequencies) frequency /= factor;
  return frequencies;
}

std::vector<double> frequencies_of(const ModelConfig& config) {
  return linear_frequencies(config.head_dim, config.rope_theta, config.rope_linear_factor);
}

}  // namespace ringbolt
