// Golden values: transformers' modeling_rope_utils and the formulas of each paper, computed in
// double precision.
#include "rope/frequencies.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "rope/llama3.h"
#include "rope/longrope.h"
#include "rope/p_rope.h"

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

TEST(NtkBase, GrowsWithTheFactor) {
  EXPECT_NEAR(ntk_base(128, 1e4, 2), 20221.26, 0.005);
  EXPECT_NEAR(ntk_base(128, 1e4, 4), 40889.94, 0.005);
  EXPECT_NEAR(ntk_base(128, 1e4, 8), 82684.62, 0.005);
}

TEST(DynamicNtkBase, GrowsWithTheLength) {
  const auto base = [](double factor, int64_t length) {
    return dynamic_ntk_base(128, 1e4, factor, 4096, length);
  };
  EXPECT_NEAR(base(1, 8192), 20221.26, 0.005);
  EXPECT_NEAR(base(2, 8192), 30527.74, 0.005);
  EXPECT_NEAR(base(4, 8192), 51293.79, 0.005);
  EXPECT_NEAR(base(1, 16384), 40889.94, 0.005);
  EXPECT_NEAR(base(2, 16384), 72195.86, 0.005);
  EXPECT_DOUBLE_EQ(base(2, 4096), 10000);
  EXPECT_DOUBLE_EQ(base(2, 17), 10000);  // a short sequence is as trained
}

TEST(NtkMixed, DividesTheLastPairByTheFactorAndTheFirstHardly) {
  const auto plain = default_frequencies(128, 1e4);
  const auto mixed = ntk_mixed_frequencies(128, 1e4, 12);
  EXPECT_NEAR(plain[63] / mixed[63], 12, 1e-9);
  EXPECT_LT(plain[0] / mixed[0], 1.12);
  // Between: ln of the divisor is ln(12) ((i + 1) / 64)^0.75, a quarter of the way 2^-1.5 of it.
  EXPECT_NEAR(std::log(plain[15] / mixed[15]), std::log(12.0) * std::pow(2.0, -1.5), 1e-12);
}

TEST(Llama3, MatchesTheReleasedSchedule) {
  const auto plain = default_frequencies(128, 5e5);
  const auto f = llama3_frequencies(128, 5e5, 8, 1, 4, 8192);
  for (size_t i = 0; i < 29; ++i) EXPECT_DOUBLE_EQ(f[i], plain[i]) << i;
  for (size_t i = 35; i < 64; ++i) EXPECT_DOUBLE_EQ(f[i], plain[i] / 8) << i;
  EXPECT_LT(f[29], plain[29]);
  EXPECT_GT(f[34], plain[34] / 8);
  EXPECT_NEAR(f[29], 0.002166570763503359, 1e-16);
  EXPECT_NEAR(f[30], 0.0013718935677611381, 1e-16);
  EXPECT_NEAR(f[31], 8.567514129196321e-4, 1e-17);
  EXPECT_NEAR(f[34], 1.785078127679964e-4, 1e-17);
  EXPECT_NEAR(f[35], 9.556212353964683e-5, 1e-18);
  EXPECT_NEAR(f[63], 3.068925988914511e-7, 1e-20);
}

TEST(LongRope, ScalesAttentionByTheExtension) {
  EXPECT_NEAR(longrope_attention_factor(131072.0 / 4096, 4096), 1.1902380714238083, 1e-15);
  EXPECT_EQ(longrope_attention_factor(1, 4096), 1);
  EXPECT_EQ(longrope_attention_factor(0.5, 4096), 1);
}

TEST(LongRope, DividesEachPairByItsOwnFactor) {
  const std::vector<double> factors{1, 2, 3, 4.5};
  const auto plain = default_frequencies(8, 100);
  const auto f = longrope_frequencies(8, 100, factors);
  for (size_t i = 0; i < 4; ++i) EXPECT_DOUBLE_EQ(f[i], plain[i] / factors[i]);
}

TEST(PRope, RotatesThatShareOfThePairs) {
  EXPECT_EQ(rotated_pairs(256, 0.75), 96);
  EXPECT_EQ(rotated_pairs(10, 0.25), 1);  // (p d) // 2 of 2.5
  const auto plain = default_frequencies(8, 1e4);
  auto highest = plain;
  keep_rotated_share(highest, 0.75, RotatedPairs::highest);
  EXPECT_EQ(highest, (std::vector<double>{plain[0], plain[1], plain[2], 0}));
  auto lowest = plain;
  keep_rotated_share(lowest, 0.75, RotatedPairs::lowest);
  EXPECT_EQ(lowest, (std::vector<double>{0, plain[1], plain[2], plain[3]}));
}

TEST(PRope, IsRopeAtOneAndNopeAtZero) {
  const auto plain = default_frequencies(32, 1e4);
  auto all = plain;
  keep_rotated_share(all, 1, RotatedPairs::highest);
  EXPECT_EQ(all, plain);
  keep_rotated_share(all, 0, RotatedPairs::highest);
  EXPECT_EQ(all, std::vector<double>(16, 0.0));
}

}  // namespace
}  // namespace ringbolt
