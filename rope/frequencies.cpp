#include "rope/frequencies.h"

#include <algorithm>
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

double ntk_base(int64_t dim, double base, double factor) {
  return base * std::pow(factor, static_cast<double>(dim) / static_cast<double>(dim - 2));
}

double dynamic_ntk_base(int64_t dim, double base, double factor, int64_t original_length,
                        int64_t length) {
  return ntk_base(dim, base, factor * dynamic_factor(original_length, length) - (factor - 1));
}

std::vector<double> ntk_mixed_frequencies(int64_t dim, double base, double factor) {
  std::vector<double> frequencies = default_frequencies(dim, base);
  const double a = std::log(factor) / std::pow(static_cast<double>(dim) / 2, 0.75);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] *= std::exp(-a * std::pow(static_cast<double>(i + 1), 0.75));
  }
  return frequencies;
}

double dynamic_factor(int64_t original_length, int64_t length) {
  return static_cast<double>(std::max(length, original_length)) /
         static_cast<double>(original_length);
}

}  // namespace ringbolt
