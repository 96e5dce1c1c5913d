// Golden values: Resonance RoPE (arXiv 2403.00071), section 3 and its released code.
#include "rope/resonance.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "rope/frequencies.h"

namespace ringbolt {
namespace {

std::vector<double> rounded_periods(int64_t dim, double base) {
  std::vector<double> periods;
  for (const double theta : default_frequencies(dim, base))
    periods.push_back(resonant_period(period_of(theta)));
  return periods;
}

TEST(Resonance, RoundsThePeriodsOfLlama2) {
  const std::vector<double> expected{
      6,   7,   8,   10,  11,   13,   15,   17,   20,   23,   26,   31,   35,   41,   47,  54,
      63,  73,  84,  97,  112,  129,  149,  172,  199,  229,  265,  306,  353,  408,  471, 544,
      628, 726, 838, 968, 1117, 1290, 1490, 1721, 1987, 2294, 2650, 3060, 3533, 4080, 4712};
  const auto periods = rounded_periods(128, 1e4);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), periods.begin()));
  EXPECT_EQ(periods.back(), 54410);
  EXPECT_NEAR(period_of(default_frequencies(128, 1e4).front()), 6.28, 0.005);
}

TEST(Resonance, RoundsThePeriodsOfHeadsOf64) {
  EXPECT_EQ(
      rounded_periods(64, 1e4),
      (std::vector<double>{6,    8,    11,   15,   20,    26,    35,    47,    63,    84,   112,
                           149,  199,  265,  353,  471,   628,   838,   1117,  1490,  1987, 2650,
                           3533, 4712, 6283, 8379, 11173, 14900, 19869, 26496, 35333, 47117}));
}

TEST(Resonance, ChangesFrequenciesToWholePeriods) {
  auto f = default_frequencies(128, 1e4);
  f.push_back(0);  // a pair that does not rotate stays
  make_resonant(f);
  EXPECT_DOUBLE_EQ(f[0], 2 * std::numbers::pi / 6);
  EXPECT_DOUBLE_EQ(f[63], 2 * std::numbers::pi / 54410);
  EXPECT_EQ(f[64], 0);
}

TEST(Resonance, TiesGoToTheEvenPeriod) {
  EXPECT_EQ(resonant_period(6.5), 6);
  EXPECT_EQ(resonant_period(7.5), 8);
}

TEST(Resonance, CommonPeriodOfLlama2IsBeyondEveryContext) {
  auto periods = rounded_periods(128, 1e4);
  const auto pre_critical =
      std::count_if(periods.begin(), periods.end(), [](double p) { return p < 4096; });
  EXPECT_EQ(pre_critical, 46);
  periods.resize(static_cast<size_t>(pre_critical));
  EXPECT_NEAR(log10_common_period(periods), std::log10(7.058e51), 1e-3);  // published: above 7e51
  EXPECT_NEAR(log10_common_period(std::vector<double>{4, 6, 10}), std::log10(60), 1e-12);
}

TEST(Resonance, ClosesTheGapOfPairsThatCompletedAPeriod) {
  auto plain = default_frequencies(64, 1e4);
  auto resonant = plain;
  make_resonant(resonant);
  int closed = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (period_of(resonant[i]) > 64) continue;
    EXPECT_LT(resonance_gap(resonant[i], 64, 256), 1e-12) << i;
    EXPECT_GT(resonance_gap(plain[i], 64, 256), 1e-4) << i;
    ++closed;
  }
  EXPECT_EQ(closed, 9);
}

TEST(ResonanceGap, OfASlowPairIsTheAngleThatTrainingNeverReached) {
  // Half a turn takes 1000 tokens: trained to 100, at 300 the nearest known angle is that of 99.
  const double theta = std::numbers::pi / 1000;
  EXPECT_NEAR(resonance_gap(theta, 100, 301), 201 * theta, 1e-12);
}

TEST(ResonanceGap, IsTheFarthestOfAllFromTheNearestOfAll) {
  for (const double theta : {1.0, 0.31, 0.0123, 2 * std::numbers::pi / 7}) {
    double expected = 0;
    for (int64_t m = 41; m < 517; ++m) {
      double nearest = 10;
      for (int64_t j = 0; j < 41; ++j) {
        const double turned =
            std::remainder(static_cast<double>(m - j) * theta, 2 * std::numbers::pi);
        nearest = std::min(nearest, std::abs(turned));
      }
      expected = std::max(expected, nearest);
    }
    EXPECT_NEAR(resonance_gap(theta, 41, 517), expected, 1e-12) << theta;
  }
  EXPECT_EQ(resonance_gap(1.0, 41, 41), 0);
}

}  // namespace
}  // namespace ringbolt
