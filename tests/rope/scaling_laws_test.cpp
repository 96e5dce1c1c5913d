// Golden values: arXiv 2310.05209 (critical dimension 92 of LLaMA-2), and values computed in double
// precision from its formulas.
#include "rope/scaling_laws.h"

#include <cmath>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "rope/frequencies.h"

namespace ringbolt {
namespace {

TEST(ScalingLaws, CriticalDimensionOfLlama2Is92) {
  EXPECT_EQ(critical_dimension(128, 1e4, 4096), 92);
  EXPECT_EQ(critical_dimension(128, 1e4, 2048), 82);
  EXPECT_EQ(critical_dimension(64, 1e4, 4096), 46);
  EXPECT_EQ(critical_dimension(32, 1e4, 4096), 24);
}

TEST(ScalingLaws, CriticalDimensionIsClampedToTheHead) {
  EXPECT_EQ(critical_dimension(128, 500, 16384),
            128);  // the formula gives 164: all dimensions complete a period
  EXPECT_EQ(critical_dimension(128, 1e4, 3), 0);  // no period of 2 pi fits into 3 tokens
}

TEST(ScalingLaws, CompletedPairsAreNotRounded) {
  EXPECT_NEAR(completed_pairs(128, 1e4, 4096), 45.02688, 5e-6);
  const auto dimension = [](double base, int64_t length) {
    return 2 * std::ceil(completed_pairs(128, base, length));
  };
  EXPECT_EQ(dimension(500, 16384), 164);  // above 128: all dimensions are complete
  EXPECT_EQ(dimension(500, 4096), 134);
  EXPECT_EQ(dimension(1e4, 16384), 110);
  EXPECT_EQ(dimension(40000, 16384), 96);
  EXPECT_EQ(dimension(71738.4, 16384), 92);
  EXPECT_EQ(dimension(1e6, 16384), 74);
  // The longest period at base 500 lies within the 4096 tokens of training.
  EXPECT_NEAR(2 * std::numbers::pi / default_frequencies(128, 500).back(), 2850.9, 0.05);
}

TEST(ScalingLaws, SmallerBasesFollowTheTuningLength) {
  const auto at_4k = smaller_bases(4096);
  EXPECT_NEAR(at_4k[0], 2607.595, 5e-4);
  EXPECT_NEAR(at_4k[1], 1303.797, 5e-4);
  EXPECT_NEAR(at_4k[2], 651.899, 5e-4);
  const auto at_16k = smaller_bases(16384);
  EXPECT_NEAR(at_16k[0], 10430.378, 5e-4);
  EXPECT_NEAR(at_16k[1], 5215.189, 5e-4);
  EXPECT_NEAR(at_16k[2], 2607.595, 5e-4);
}

TEST(ScalingLaws, CriticalBaseFollowsTheTuningLength) {
  EXPECT_NEAR(critical_base(1e4, 4096, 4096), 1e4, 1e-8);
  EXPECT_NEAR(critical_base(1e4, 4096, 8192), 26784.0, 0.05);
  EXPECT_NEAR(critical_base(1e4, 4096, 16384), 71738.4, 0.05);
  EXPECT_NEAR(critical_base(1e4, 4096, 32768), 192144.5, 0.05);
  EXPECT_NEAR(critical_base(1e4, 4096, 65536), 514640.3, 0.05);
  EXPECT_NEAR(critical_base(1e4, 4096, 131072), 1378414, 0.5);
  EXPECT_NEAR(critical_base(1e4, 4096, 1048576), 2.64855e7, 50);
  EXPECT_NEAR(critical_base(1e6, 32768, 131072), 9370821.04,
              0.005);  // published for Mistral-Large: 9,370,821
}

TEST(ScalingLaws, SmallestBaseOfTheSurveyRoundsTheDimension) {
  EXPECT_NEAR(smallest_base_rounded(128, 1e4, 4096, 100000), 701472, 0.5);
  EXPECT_NEAR(smallest_base_rounded(128, 1e4, 4096, 131072), 1022122, 0.5);
  EXPECT_NEAR(smallest_base_rounded(128, 1e4, 4096, 1048576), 1.844912e7, 5);
}

TEST(ScalingLaws, LargerBasesReachFurther) {
  const std::vector<std::pair<double, double>> published{
      {10000, 4711.7}, {20000, 7754.3}, {40000, 12761.8}, {80000, 21002.7}, {120000, 28108.7}};
  for (const auto& [base, tokens] : published)
    EXPECT_NEAR(larger_base_reach(128, 1e4, 4096, base), tokens, 0.05);
  const std::vector<std::pair<double, double>> large{{160000, 34565}, {200000, 40578},
                                                     {400000, 66782}, {600000, 89377},
                                                     {1e6, 129027},   {5e6, 410265}};
  for (const auto& [base, tokens] : large)
    EXPECT_NEAR(larger_base_reach(128, 1e4, 4096, base), tokens, 0.5);
}

TEST(ScalingLaws, PredictionsSayWhichBranchTheyUsed) {
  const PredictedReach large = predicted_reach(128, 1e4, 4096, 1e6, 4096);
  EXPECT_NEAR(large.tokens, 129027, 0.5);
  EXPECT_EQ(large.branch, PredictedReach::Branch::larger_base);
  EXPECT_EQ(large.critical_dimension, 92);
  const PredictedReach bound =
      predicted_reach(128, 1e4, 4096, 40000, 16384);  // below beta_0 = 71738
  EXPECT_EQ(bound.branch, PredictedReach::Branch::tune_length);
  EXPECT_DOUBLE_EQ(bound.tokens, 16384);
  EXPECT_EQ(bound.critical_dimension, 96);
  // The branches do not meet: just above beta_0 the larger-base law gives more than the tuning
  // length.
  EXPECT_NEAR(predicted_reach(128, 1e4, 4096, 71739, 16384).tokens, 19420, 1);
}

TEST(ScalingLaws, TheCaveatIsOfBasesBelowThatOfPretraining) {
  EXPECT_TRUE(is_small_base(1e4, 500));
  EXPECT_FALSE(is_small_base(1e4, 1e4));
  EXPECT_FALSE(is_small_base(1e4, 1e6));
}

TEST(ScalingLaws, RefuseATrainingLengthBelowOnePeriod) {
  EXPECT_THROW(critical_base(1e4, 6, 4096), UsageError);
  EXPECT_THROW(smallest_base_rounded(128, 1e4, 6, 4096), UsageError);
}

}  // namespace
}  // namespace ringbolt
