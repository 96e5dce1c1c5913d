// CLEX (arXiv 2310.16450; its released code): initial frequencies, and gradients by finite
// differences.
#include "rope/clex.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/base/random.h"
#include "rope/frequencies.h"
#include "tests/support/compare.h"
#include "tests/support/random_values.h"

namespace ringbolt {
namespace {

ClexWeights random_weights(int64_t pairs, int64_t hidden) {
  const Philox random(7, stream_of("clex"));
  ClexWeights w{hidden, std::vector<double>(static_cast<size_t>(pairs * hidden)),
                std::vector<double>(static_cast<size_t>(pairs * hidden))};
  for (size_t i = 0; i < w.up.size(); ++i) w.up[i] = 0.05 * random.normal(i);
  for (size_t i = 0; i < w.down.size(); ++i) w.down[i] = 0.05 * random.normal(w.up.size() + i);
  return w;
}

TEST(Clex, BeginsAsDynamicNtkWithFactorTwo) {
  const Clex clex(128, 1e4);
  const double bases[] = {30527.74, 72195.86, 156588.32, 327366.40};
  for (int k = 0; k < 4; ++k) {
    const int64_t t = int64_t{2} << k;
    const auto f = clex.frequencies(static_cast<double>(t));
    const auto expected = default_frequencies(128, dynamic_ntk_base(128, 1e4, 2, 4096, 4096 * t));
    for (size_t i = 0; i < f.size(); ++i)
      EXPECT_NEAR(f[i] / expected[i], 1, 1e-8) << "t " << t << ", pair " << i;
    EXPECT_NEAR(std::pow(f[1], -64), bases[k], 0.01);
  }
}

TEST(Clex, MovesByTheSlopeOfNtk) {
  // xi_i = -2 (2 i) / ((d - 2) alpha), alpha = 2 t - 1: -2/3 for the last pair at t = 2. The
  // frequencies' own slope, by differences of 2e-3, whose error is below 1e-6.
  const Clex clex(128, 1e4);
  const auto before = clex.frequencies(1.999);
  const auto after = clex.frequencies(2.001);
  EXPECT_NEAR(std::log(after[63] / before[63]) / 0.002, -0.666667, 2e-6);
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_NEAR(std::log(after[i] / before[i]) / 0.002, -4 * static_cast<double>(i) / (126 * 3.0),
                2e-6)
        << i;
  }
}

TEST(Clex, AtScaleOneIsPlainWhateverTheWeights) {
  const auto f = Clex(16, 1e4, random_weights(8, 20)).frequencies(1);
  const auto plain = default_frequencies(16, 1e4);
  for (size_t i = 0; i < f.size(); ++i) EXPECT_NEAR(f[i] / plain[i], 1, 1e-14);
}

TEST(Clex, WeightsWithAZeroSecondLayerChangeNothing) {
  ClexWeights w = random_weights(8, 20);
  std::fill(w.down.begin(), w.down.end(), 0.0);
  EXPECT_EQ(Clex(16, 1e4, w).frequencies(3), Clex(16, 1e4).frequencies(3));
}

TEST(Clex, ScaleIsTheLengthInUnitsOfTraining) {
  EXPECT_EQ(Clex::scale_of(1, 256, 16), 1);
  EXPECT_EQ(Clex::scale_of(256, 256, 16), 1);
  EXPECT_EQ(Clex::scale_of(257, 256, 16), 2);
  EXPECT_EQ(Clex::scale_of(1 << 20, 256, 16), 16);
}

class ClexGradient : public testing::TestWithParam<ClexActivation> {};

TEST_P(ClexGradient, MatchesFiniteDifferences) {
  constexpr int64_t kDim = 8;
  constexpr double kScale = 2.3;
  const ClexWeights w = random_weights(kDim / 2, 5);
  const auto build = [&](const ClexWeights& weights) {
    return Clex(kDim, 100, weights, GetParam(), 0.1);
  };
  // A loss with unequal weights on the frequencies.
  std::vector<double> slopes{1.0, -2.0, 3.5, 0.7};
  const auto loss = [&](const ClexWeights& weights) {
    const auto f = build(weights).frequencies(kScale);
    double sum = 0;
    for (size_t i = 0; i < f.size(); ++i) sum += slopes[i] * f[i];
    return sum;
  };
  const std::vector<std::vector<double>> dfrequencies{slopes};
  const Clex::Gradients g = build(w).backward(std::span(&kScale, 1), dfrequencies);
  constexpr double kStep = 1e-5;
  int compared = 0;
  for (std::vector<double> ClexWeights::*layer : {&ClexWeights::up, &ClexWeights::down}) {
    const auto& gradient = layer == &ClexWeights::up ? g.up : g.down;
    for (size_t i = 0; i < gradient.size(); ++i) {
      ClexWeights more = w;
      ClexWeights less = w;
      (more.*layer)[i] += kStep;
      (less.*layer)[i] -= kStep;
      EXPECT_NEAR(gradient[i], (loss(more) - loss(less)) / (2 * kStep), 1e-8) << i;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 40);
}

TEST_P(ClexGradient, OfSeveralScalesIsTheSumOfEach) {
  constexpr int64_t kDim = 12;
  const Clex clex(kDim, 1000, random_weights(kDim / 2, 7), GetParam());
  const std::vector<double> scales{1, 2, 5};
  std::vector<std::vector<double>> slopes;
  Clex::Gradients sum{std::vector<double>(42), std::vector<double>(42)};
  const auto together = clex.frequencies(scales);
  for (size_t k = 0; k < scales.size(); ++k) {
    // The same steps of 0.01, wherever a scale between ends one.
    const auto alone = clex.frequencies(scales[k]);
    for (size_t i = 0; i < alone.size(); ++i) EXPECT_NEAR(together[k][i] / alone[i], 1, 1e-12);
    slopes.push_back(testing_support::random_values(k + 1, kDim / 2));
    const auto one = std::vector<std::vector<double>>{slopes.back()};
    const Clex::Gradients g = clex.backward(std::span(&scales[k], 1), one);
    for (size_t i = 0; i < g.up.size(); ++i) sum.up[i] += g.up[i];
    for (size_t i = 0; i < g.down.size(); ++i) sum.down[i] += g.down[i];
  }
  const Clex::Gradients g = clex.backward(scales, slopes);
  EXPECT_TRUE(testing_support::close_in_norm(g.up, sum.up, 1e-10));
  EXPECT_TRUE(testing_support::close_in_norm(g.down, sum.down, 1e-10));
}

INSTANTIATE_TEST_SUITE_P(Activations, ClexGradient,
                         testing::Values(ClexActivation::tanh, ClexActivation::silu));

}  // namespace
}  // namespace ringbolt
