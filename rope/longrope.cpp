#include "rope/longrope.h"

#include <cmath>

#include "rope/frequencies.h"

namespace ringbolt {

std::vector<double> longrope_frequencies(int64_t dim, double base,
                                         const std::vector<double>& factors) {
  std::vector<double> frequencies = default_frequencies(dim, base);
  for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= factors[i];
  return frequencies;
}

double longrope_attention_factor(double factor, int64_t original_length) {
  if (factor <= 1) return 1.0;
  return std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original_length)));
}

}  // namespace ringbolt
