// Golden values: transformers' modeling_rope_utils and gpt-oss, computed in double precision from
// their formulas.
#include "rope/yarn.h"

#include <gtest/gtest.h>

#include "rope/frequencies.h"

namespace ringbolt {
namespace {

TEST(YarnRange, LiesBetweenThirtyTwoRotationsAndOne) {
  EXPECT_NEAR(yarn_correction(128, 1e4, 4096, 32), 20.9445, 5e-5);
  EXPECT_NEAR(yarn_correction(128, 1e4, 4096, 1), 45.0269, 5e-5);
  EXPECT_NEAR(yarn_correction(128, 1e4, 2048, 32), 16.128, 5e-4);
  EXPECT_NEAR(yarn_correction(128, 1e4, 2048, 1), 40.210, 5e-4);
  EXPECT_NEAR(yarn_correction(128, 1e6, 32768, 32), 23.596, 5e-4);
  EXPECT_NEAR(yarn_correction(128, 1e6, 32768, 1), 39.651, 5e-4);
  const auto range = [](double base, int64_t length) {
    return yarn_range(128, base, length, RopeScaling());
  };
  EXPECT_EQ(range(1e4, 4096).low, 20);
  EXPECT_EQ(range(1e4, 4096).high, 46);
  EXPECT_EQ(range(1e4, 2048).low, 16);
  EXPECT_EQ(range(1e4, 2048).high, 41);
  EXPECT_EQ(range(1e6, 32768).low, 23);
  EXPECT_EQ(range(1e6, 32768).high, 40);
}

TEST(YarnRange, IsNotTruncatedWhereAsked) {
  RopeScaling s;
  s.truncate = false;
  EXPECT_NEAR(yarn_range(64, 150000, 4096, s).low, 8.09278, 5e-6);
  EXPECT_NEAR(yarn_range(64, 150000, 4096, s).high, 17.39802, 5e-6);
}

TEST(YarnRange, StaysInTheHeadAndIsNeverEmpty) {
  const RopeScaling s;
  EXPECT_EQ(yarn_range(16, 1e4, 100, s).low, 0);  // 32 rotations do not fit into the length
  EXPECT_EQ(yarn_range(16, 10, int64_t{1} << 40, s).high, 15);  // dim - 1, as released
  EXPECT_DOUBLE_EQ(yarn_range(16, 1e4, 5, s).high - yarn_range(16, 1e4, 5, s).low, 0.001);
}

TEST(Yarn, MatchesTheReleasedScheduleOfLlama2) {
  const auto f = yarn_frequencies(128, 1e4, 4096, 16, RopeScaling());
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_NEAR(f[20], 0.05623413251903491, 1e-15);
  EXPECT_NEAR(f[21], 0.046940859997959404, 1e-15);
  EXPECT_NEAR(f[33], 0.004600435467850348, 1e-15);
  EXPECT_NEAR(f[45], 1.517716047318249e-4, 1e-16);
  EXPECT_NEAR(f[46], 8.334508951020775e-5, 1e-17);
  EXPECT_NEAR(f[63], 7.217387404309114e-6, 1e-18);
}

TEST(Yarn, MatchesGptOssWithoutTruncation) {
  RopeScaling s;
  s.truncate = false;
  const auto f = yarn_frequencies(64, 150000, 4096, 32, s);
  EXPECT_NEAR(f[8], 0.050813274815461475, 1e-15);
  EXPECT_NEAR(f[9], 0.03170569618466377, 1e-15);
  EXPECT_NEAR(f[17], 1.293187012450632e-4, 1e-16);
  EXPECT_NEAR(f[18], 3.8308812373753384e-5, 1e-17);
  EXPECT_NEAR(f[31], 3.0235114281192144e-7, 1e-19);
}

TEST(Yarn, RampsDifferInTheMiddleAndAgreeAtTheEnds) {
  RopeScaling rotations;
  rotations.ramp = YarnRamp::rotations;
  const auto by_index = yarn_frequencies(128, 1e4, 4096, 16, RopeScaling());
  const auto by_rotations = yarn_frequencies(128, 1e4, 4096, 16, rotations);
  const auto plain = default_frequencies(128, 1e4);
  for (const size_t kept : {0U, 10U, 20U}) EXPECT_DOUBLE_EQ(by_rotations[kept], plain[kept]);
  for (const size_t divided : {46U, 63U})
    EXPECT_DOUBLE_EQ(by_rotations[divided], plain[divided] / 16);
  // Pair 33 makes 4096 theta / 2 pi = 5.6445 rotations: gamma = 4.6445 / 31 (eq. 18).
  const double gamma = (4096 * plain[33] / 6.283185307179586 - 1) / 31;
  EXPECT_NEAR(by_rotations[33], (1 - gamma) * plain[33] / 16 + gamma * plain[33], 1e-17);
  EXPECT_LT(by_rotations[33], 0.5 * by_index[33]);
}

TEST(PartNtk, MatchesTheReleasedFormulas) {
  // The formulas of LlamaPartNTKScaledRotaryEmbedding in double: ramps from 20 to 36 and from 38
  // to 43.
  const auto f = part_ntk_frequencies(128, 1e4, 2048, 4);
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_NEAR(f[20], 0.056234132519034905, 1e-15);
  EXPECT_NEAR(f[21], 0.047570519970461175, 1e-15);
  EXPECT_NEAR(f[28], 0.013693017038405123, 1e-15);
  EXPECT_NEAR(f[36], 0.00254662922809212, 1e-16);
  EXPECT_NEAR(f[38], 0.0018274802984277563, 1e-16);
  EXPECT_NEAR(f[41], 0.0008551313490583073, 1e-17);
  EXPECT_NEAR(f[43], 0.0005133812566142865, 1e-17);
  EXPECT_NEAR(f[63], 2.8869549617236455e-05, 1e-18);
  // A head of 16 at 256 tokens, where the two ramps touch.
  const auto small = part_ntk_frequencies(16, 1e4, 256, 4);
  EXPECT_NEAR(small[1], 0.29728944968286625, 1e-15);
  EXPECT_NEAR(small[3], 0.017457188019584336, 1e-15);
  EXPECT_NEAR(small[4], 0.0025, 1e-16);
}

TEST(YarnAttentionFactor, IsTheTemperatureOfTheFactor) {
  EXPECT_NEAR(yarn_mscale(2), 1.0693147, 5e-8);
  EXPECT_NEAR(yarn_mscale(4), 1.1386294, 5e-8);
  EXPECT_NEAR(yarn_mscale(8), 1.2079442, 5e-8);
  EXPECT_NEAR(yarn_mscale(16), 1.2772589, 5e-8);
  EXPECT_NEAR(yarn_mscale(32), 1.3465736, 5e-8);
  EXPECT_EQ(yarn_mscale(1), 1);
  EXPECT_EQ(yarn_mscale(0.5), 1);
}

TEST(YarnAttentionFactor, FollowsMscaleOnlyWhereBothAreGiven) {
  RopeScaling s;
  s.mscale = 0.707;
  EXPECT_DOUBLE_EQ(yarn_attention_factor(40, s), yarn_mscale(40));
  s.mscale_all_dim = 1.0;
  EXPECT_DOUBLE_EQ(yarn_attention_factor(40, s), yarn_mscale(40, 0.707) / yarn_mscale(40, 1.0));
  s.mscale_all_dim = 0.0;
  EXPECT_DOUBLE_EQ(yarn_attention_factor(40, s), yarn_mscale(40));
  s.attention_factor = 1.25;
  EXPECT_EQ(yarn_attention_factor(40, s), 1.25);
}

}  // namespace
}  // namespace ringbolt
