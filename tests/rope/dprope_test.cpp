// Golden values: DPRoPE (arXiv 2410.01490), table 3, which its printed eq. 8 does not give but its
// code does; computed in double precision here, in single there, hence 1 %.
#include "rope/dprope.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "rope/angle_distribution.h"
#include "rope/frequencies.h"
#include "rope/yarn.h"

namespace ringbolt {
namespace {

constexpr int64_t kTrained = 4096;

/// Mean over the pairs of LLaMA-2, in thousandths.
double mean_disturbance(const std::vector<double>& extended, double factor) {
  const auto trained = default_frequencies(128, 1e4);
  const auto all =
      angle_disturbances(trained, kTrained, extended, static_cast<int64_t>(factor * kTrained));
  return 1e3 * std::accumulate(all.begin(), all.end(), 0.0) / 64;
}

TEST(AngleCounts, AddUpToTheLength) {
  const auto counts = angle_counts(0.731, 1000);
  EXPECT_EQ(counts.size(), 360U);
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0.0), 1000);
  EXPECT_EQ(angle_counts(0, 7)[0], 7);
}

TEST(AngleDisturbance, OfPositionInterpolationIsThePublishedOne) {
  const auto pi = [](double s) { return mean_disturbance(linear_frequencies(128, 1e4, s), s); };
  EXPECT_NEAR(pi(2), 24.06, 0.005);
  EXPECT_NEAR(pi(4), 33.62, 0.005);
  EXPECT_NEAR(pi(2), 24.08, 0.2408);
  EXPECT_NEAR(pi(4), 33.67, 0.3367);
}

TEST(AngleDisturbance, OfYarnIsThePublishedOne) {
  const auto yarn = [](double s) {
    return mean_disturbance(yarn_frequencies(128, 1e4, kTrained, s, RopeScaling()), s);
  };
  EXPECT_NEAR(yarn(2), 25.61, 0.005);
  EXPECT_NEAR(yarn(4), 35.43, 0.005);
  EXPECT_NEAR(yarn(2), 25.55, 0.2555);
  EXPECT_NEAR(yarn(4), 35.44, 0.3544);
}

TEST(AngleDisturbance, OfYarnsPaperRampIsNotThePublishedOne) {
  RopeScaling s;
  s.ramp = YarnRamp::rotations;
  EXPECT_NEAR(mean_disturbance(yarn_frequencies(128, 1e4, kTrained, 2, s), 2), 23.3, 0.1);
  EXPECT_NEAR(mean_disturbance(yarn_frequencies(128, 1e4, kTrained, 4, s), 4), 33.4, 0.1);
}

TEST(DpRope, DisturbsLeastAsPublished) {
  const auto dprope = [](double s) {
    return mean_disturbance(dprope_frequencies(128, 1e4, s, kTrained, 0), s);
  };
  EXPECT_NEAR(dprope(2), 6.717, 0.0005);
  EXPECT_NEAR(dprope(4), 22.95, 0.005);
  EXPECT_NEAR(dprope(2), 6.71, 0.0671);
  EXPECT_NEAR(dprope(4), 22.92, 0.2292);
}

TEST(DpRope, DividesTheNumberOfDimensionsThatIsAsked) {
  const auto plain = default_frequencies(128, 1e4);
  const auto divided = [&](double s, int64_t dimensions) {
    const auto f = dprope_frequencies(128, 1e4, s, kTrained, dimensions);
    int64_t count = 0;
    for (size_t i = 0; i < f.size(); ++i) count += f[i] != plain[i] ? 2 : 0;
    return count;
  };
  EXPECT_EQ(divided(2, 0), 92);
  EXPECT_EQ(divided(4, 0), 84);
  EXPECT_EQ(divided(2, 80), 80);
  EXPECT_NEAR(mean_disturbance(dprope_frequencies(128, 1e4, 2, kTrained, 80), 2), 6.737, 0.05);
  EXPECT_NEAR(mean_disturbance(dprope_frequencies(128, 1e4, 4, kTrained, 64), 4), 23.04, 0.05);
}

}  // namespace
}  // namespace ringbolt
