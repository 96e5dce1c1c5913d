#include "rope/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>

#include "rope/frequencies.h"

namespace ringbolt {
namespace {

constexpr long double kTurn = 2 * std::numbers::pi_v<long double>;

/// The angle in [0, 2 pi) in long double, whose 64 bits leave an error below 1e-11 rad up to
/// position 2^24.
long double exact_angle(double base, size_t pair, int64_t position) {
  const long double theta =
      std::pow(static_cast<long double>(base), -2.0L * static_cast<long double>(pair) / 128.0L);
  return std::fmod(static_cast<long double>(position) * theta, kTurn);
}

/// Distance on the circle, in rad.
double apart(long double a, long double b) {
  const long double d = std::abs(std::remainder(a - b, kTurn));
  return static_cast<double>(d);
}

/// What is usual elsewhere: frequencies, products and reduction in f32.
float plain_angle(double base, size_t pair, int64_t position) {
  const float exponent = static_cast<float>(2 * pair) / 128.0F;
  const float theta = 1.0F / std::pow(static_cast<float>(base), exponent);
  return static_cast<float>(position) * theta;
}

struct AngleErrors {
  double table = 0;  ///< of the angle that the table's cos and sin have
  double angle = 0;  ///< of rotary_angle
  double plain = 0;  ///< of f32 arithmetic
};

AngleErrors worst_errors(Backend& backend, double base, int64_t position) {
  const auto frequencies = default_frequencies(128, base);
  // Among others, as a sequence has them, so that rows are formed as in use.
  const std::vector<int64_t> positions{position - 1, position, position + 1};
  const RotaryTable table = make_rotary_table(backend, frequencies, positions);
  const auto cosines = download_f32(backend, table.cos);
  const auto sines = download_f32(backend, table.sin);
  AngleErrors worst;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const long double exact = exact_angle(base, i, position);
    const double shown =
        std::atan2(static_cast<double>(sines[64 + i]), static_cast<double>(cosines[64 + i]));
    worst.table = std::max(worst.table, apart(shown, exact));
    worst.angle = std::max(worst.angle, apart(rotary_angle(position, frequencies[i]), exact));
    worst.plain = std::max(worst.plain, apart(plain_angle(base, i, position), exact));
  }
  return worst;
}

TEST(RotaryTable, AnglesAreExactUpToSixteenMillionPositions) {
  const auto backend = make_cpu_backend();
  int compared = 0;
  std::printf("largest error of an angle over 64 pairs, in rad, against long double\n");
  std::printf("%8s %10s %12s %12s %12s\n", "base", "position", "table (f32)", "angle (f64)",
              "plain f32");
  for (const double base : {500.0, 1e4, 1e6, 1e8, 5e8}) {
    for (const int64_t position : {1LL << 10, 1LL << 14, 1LL << 17, (1LL << 20) - 1, 1LL << 24}) {
      const AngleErrors e = worst_errors(*backend, base, position);
      std::printf("%8g %10lld %12.1e %12.1e %12.1e\n", base, static_cast<long long>(position),
                  e.table, e.angle, e.plain);
      // Rounding cos and sin to f32 moves the angle by up to 2^-25 sqrt 2 = 4.2e-8.
      EXPECT_LT(e.table, 1e-7) << "base " << base << ", position " << position;
      EXPECT_LT(e.angle, 1e-8) << "base " << base << ", position " << position;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 25);
  EXPECT_GT(worst_errors(*backend, 1e4, (1LL << 20) - 1).plain, 1e-3);  // the table's reason
}

TEST(RotaryTable, HasTheSameRowsInAnyOrderOfPositions) {
  const auto backend = make_cpu_backend();
  const auto frequencies = default_frequencies(32, 1e4);
  std::vector<int64_t> positions;
  for (int64_t p = 0; p < 300; ++p) positions.push_back((p * 7919) % 100000);
  const RotaryTable all = make_rotary_table(*backend, frequencies, positions);
  const auto cosines = download_f32(*backend, all.cos);
  for (size_t t = 0; t < positions.size(); ++t) {
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double expected = std::cos(rotary_angle(positions[t], frequencies[i]));
      // A last bit may differ: the row is a product of two rows in double.
      ASSERT_NEAR(static_cast<double>(cosines[t * 16 + i]), expected, 6.1e-8) << positions[t];
    }
  }
}

TEST(RotaryAngle, StaysInOneTurn) {
  for (const int64_t position : {0LL, 7LL, 1048575LL, -5LL}) {
    const double angle = rotary_angle(position, 0.75);
    EXPECT_GE(angle, 0);
    EXPECT_LT(angle, 2 * std::numbers::pi);
  }
}

TEST(RotaryTable, TurnsBackwardsAtNegativePositions) {
  const auto backend = make_cpu_backend();
  const std::vector<int64_t> positions{-5, 5};
  const RotaryTable table = make_rotary_table(*backend, std::vector<double>{0.75}, positions);
  const auto sines = download_f32(*backend, table.sin);
  EXPECT_FLOAT_EQ(sines[0], -sines[1]);
}

TEST(SequencePositions, RestartForEachSequence) {
  EXPECT_EQ(sequence_positions(3, 2), (std::vector<int64_t>{0, 1, 2, 0, 1, 2}));
}

}  // namespace
}  // namespace ringbolt
