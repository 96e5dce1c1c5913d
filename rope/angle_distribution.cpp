#include "rope/angle_distribution.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ringbolt {

std::vector<double> angle_counts(double frequency, int64_t length, int64_t bins) {
  std::vector<double> counts(static_cast<size_t>(bins));
  const double turns = frequency / (2 * std::numbers::pi);
  for (int64_t m = 0; m < length; ++m) {
    const double turn = static_cast<double>(m) * turns;
    const auto bin = static_cast<int64_t>((turn - std::floor(turn)) * static_cast<double>(bins));
    counts[static_cast<size_t>(std::min(bin, bins - 1))] += 1;
  }
  return counts;
}

double angle_disturbance(double trained_frequency, int64_t trained_length,
                         double extended_frequency, int64_t extended_length, int64_t bins) {
  constexpr double kAdded = 0x1p-14;  // the smallest normal half-precision number
  const std::vector<double> trained = angle_counts(trained_frequency, trained_length, bins);
  const std::vector<double> extended = angle_counts(extended_frequency, extended_length, bins);
  double sum = 0;
  for (size_t k = 0; k < trained.size(); ++k) {
    const double before = (trained[k] + kAdded) / static_cast<double>(trained_length);
    const double after = (extended[k] + kAdded) / static_cast<double>(extended_length);
    sum += before * std::log(before / after);
  }
  return sum;
}

std::vector<double> angle_disturbances(std::span<const double> trained, int64_t trained_length,
                                       std::span<const double> extended, int64_t extended_length,
                                       int64_t bins) {
  std::vector<double> all;
  for (size_t i = 0; i < trained.size(); ++i) {
    all.push_back(
        angle_disturbance(trained[i], trained_length, extended[i], extended_length, bins));
  }
  return all;
}

}  // namespace ringbolt
