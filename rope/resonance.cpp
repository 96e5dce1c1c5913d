#include "rope/resonance.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <numbers>

#include "rope/angle.h"

namespace ringbolt {

double period_of(double frequency) {
  return frequency == 0 ? std::numeric_limits<double>::infinity()
                        : 2 * std::numbers::pi / frequency;
}

double resonant_period(double period) { return std::nearbyint(period); }

void make_resonant(std::vector<double>& frequencies) {
  for (double& theta : frequencies) {
    if (theta != 0) theta = 2 * std::numbers::pi / resonant_period(period_of(theta));
  }
}

double resonance_gap(double frequency, int64_t trained_length, int64_t length) {
  // The distance of m from the trained 0 … T - 1 is that of m - j from 0, so it is the least |k
  // theta mod 2 pi| of the T distances k = m - T + 1 … m: a sliding minimum, from the minima of
  // blocks of T up to m and down to m - T + 1.
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kRounding = 0x1.8p52;  // adding it rounds to a whole number
  if (trained_length < 1) return 0;
  const double turns = frequency / (2 * std::numbers::pi);
  const auto block = static_cast<size_t>(trained_length);
  std::vector<double> down(block + 1,
                           kInfinity);  // of the block before: the least from here to its end
  std::vector<double> here(block, kInfinity);
  double gap = 0;
  for (int64_t first = 0; first < length; first += trained_length) {
    const auto count = static_cast<size_t>(std::min(trained_length, length - first));
    for (size_t r = 0; r < count; ++r) {
      const double turn = static_cast<double>(first + static_cast<int64_t>(r)) * turns;
      here[r] = std::abs(turn - ((turn + kRounding) - kRounding));
    }
    double up = kInfinity;
    for (size_t r = 0; first > 0 && r < count; ++r) {
      up = std::min(up, here[r]);
      gap = std::max(gap, std::min(up, down[r + 1]));
    }
    for (size_t r = count; r-- > 0;) down[r] = std::min(down[r + 1], here[r]);
  }
  return 2 * std::numbers::pi * gap;
}

double log10_common_period(std::span<const double> whole_periods) {
  std::map<int64_t, int> powers;  // of each prime, the highest
  for (const double period : whole_periods) {
    auto left = static_cast<int64_t>(period);
    for (int64_t prime = 2; prime * prime <= left; ++prime) {
      int power = 0;
      for (; left % prime == 0; left /= prime) ++power;
      if (power > 0) powers[prime] = std::max(powers[prime], power);
    }
    if (left > 1) powers[left] = std::max(powers[left], 1);
  }
  double sum = 0;
  for (const auto& [prime, power] : powers) sum += power * std::log10(static_cast<double>(prime));
  return sum;
}

}  // namespace ringbolt
