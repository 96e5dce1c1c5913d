// CLEX (arXiv 2310.16450; its released code): initial frequencies, and gradients by finite differences.
#include "rope/clex.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/base/random.h"
#include "rope/frequencies.h"

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
    for (size_t i = 0; i < f.size(); ++i) EXPECT_NEAR(f[i] / expected[i], 1, 1e-8) << "t " << t << ", pair " << i;
    EXPECT_NEAR(std::pow(f[1], -64), bases[k], 0.01);
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
  const auto build = [&](const ClexWeights& weights) { return Clex(kDim, 100, weights, GetParam(), 0.1); };
  // A loss with unequal weights on the frequencies.
  std::vector<double> slopes{1.0, -2.0, 3.5, 0.7};
  const auto loss = [&](const ClexWeights& weights) {
    const auto f = build(weights).frequencies(kScale);
    double sum = 0;
    for (size_t i = 0; i < f.size(); ++i) sum += slopes[i] * f[i];
    return sum;
  };
  const Clex::Gradients g = build(w).backward(kScale, slopes);
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

INSTANTIATE_TEST_SUITE_P(Activations, ClexGradient, testing::Values(ClexActivation::tanh, ClexActivation::silu));

}  // namespace
}  // namespace ringbolt
