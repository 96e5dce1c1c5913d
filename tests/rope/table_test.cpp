#include "rope/table.h"

#include <cmath>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>

#include "rope/frequencies.h"

namespace ringbolt {
namespace {

TEST(Frequencies, AreTheGeometricSeriesOfTheBase) {
  const auto f = default_frequencies(128, 10000);
  ASSERT_EQ(f.size(), 64U);
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_NEAR(f[32], 0.01, 1e-17);
  // Longest period of LLaMA-2: 54410.14 tokens (Resonance RoPE, arXiv 2403.00071, section 3).
  EXPECT_NEAR(2 * std::numbers::pi / f[63], 54410.14, 0.01);
}

TEST(Frequencies, LinearScalingDividesThem) {
  const auto plain = default_frequencies(80, 500000);
  const auto scaled = linear_frequencies(80, 500000, 4);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_DOUBLE_EQ(scaled[i], plain[i] / 4);
}

TEST(Frequencies, ConfigurationDecidesBaseAndFactor) {
  ModelConfig config = model_shape("dim=64,layers=1,heads=2");
  config.rope_theta = 1e6;
  config.rope_linear_factor = 2;
  EXPECT_EQ(frequencies_of(config), linear_frequencies(32, 1e6, 2));
}

/// Largest distance of the table's (cos, sin) from those of an angle formed in long double.
double worst_error(Backend& backend, double base, int64_t position) {
  const auto frequencies = default_frequencies(128, base);
  const std::vector<int64_t> positions{position};
  const RotaryTable table = make_rotary_table(backend, frequencies, positions);
  const auto cosines = download_f32(backend, table.cos);
  const auto sines = download_f32(backend, table.sin);
  double worst = 0;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const long double theta = std::pow(static_cast<long double>(base), -2.0L * static_cast<long double>(i) / 128.0L);
    const long double angle = std::fmod(static_cast<long double>(position) * theta, 2 * std::numbers::pi_v<long double>);
    worst = std::max(worst, std::abs(static_cast<double>(std::cos(angle)) - static_cast<double>(cosines[i])));
    worst = std::max(worst, std::abs(static_cast<double>(std::sin(angle)) - static_cast<double>(sines[i])));
  }
  return worst;
}

TEST(RotaryTable, IsExactToF32RoundingUpToSixteenMillionPositions) {
  const auto backend = make_cpu_backend();
  int compared = 0;
  for (const double base : {500.0, 1e4, 1e6, 1e8, 5e8}) {
    for (const int64_t position : {0LL, 1LL, 1023LL, 16384LL, 131071LL, 1048575LL, 16777216LL}) {
      // Half a unit in the last place of a value in [0.5, 1] is 3e-8; the angle adds less than 1e-8.
      EXPECT_LT(worst_error(*backend, base, position), 4e-8) << "base " << base << ", position " << position;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 35);
}

TEST(RotaryAngle, StaysInOneTurn) {
  for (const int64_t position : {0LL, 7LL, 1048575LL, -5LL}) {
    const double angle = rotary_angle(position, 0.75);
    EXPECT_GE(angle, 0);
    EXPECT_LT(angle, 2 * std::numbers::pi);
  }
}

TEST(SequencePositions, RestartForEachSequence) {
  EXPECT_EQ(sequence_positions(3, 2), (std::vector<int64_t>{0, 1, 2, 0, 1, 2}));
}

}  // namespace
}  // namespace ringbolt
