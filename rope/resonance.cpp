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
  return frequency == 0 ? std::numeric_limits<double>::infinity() : 2 * std::numbers::pi / frequency;
}

double resonant_period(double period) { return std::nearbyint(period); }

void make_resonant(std::vector<double>& frequencies) {
  for (double& theta : frequencies) {
    if (theta != 0) theta = 2 * std::numbers::pi / resonant_period(period_of(theta));
  }
}

double resonance_gap(double frequency, int64_t trained_length, int64_t length) {
  constexpr double kTurn = 2 * std::numbers::pi;
  std::vector<double> trained;
  for (int64_t m = 0; m < trained_length; ++m) trained.push_back(rotary_angle(m, frequency));
  std::sort(trained.begin(), trained.end());
  trained.push_back(trained.front() + kTurn);
  double gap = 0;
  for (int64_t m = trained_length; m < length; ++m) {
    double angle = rotary_angle(m, frequency);
    if (angle < trained.front()) angle += kTurn;
    const auto above = std::upper_bound(trained.begin(), trained.end() - 1, angle);
    gap = std::max(gap, std::min(*above - angle, angle - *(above - 1)));
  }
  return gap;
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
