// Golden values: arXiv 2310.05209 (critical dimension 92 of LLaMA-2), and values computed in double precision from its
// formulas.
#include "rope/scaling_laws.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace ringbolt {
namespace {

TEST(ScalingLaws, CriticalDimensionOfLlama2Is92) {
  EXPECT_EQ(critical_dimension(128, 1e4, 4096), 92);
  EXPECT_EQ(critical_dimension(128, 1e4, 2048), 82);
  EXPECT_EQ(critical_dimension(64, 1e4, 4096), 46);
  EXPECT_EQ(critical_dimension(32, 1e4, 4096), 24);
}

TEST(ScalingLaws, CriticalDimensionIsClampedToTheHead) {
  EXPECT_EQ(critical_dimension(128, 500, 16384), 128);  // the formula gives 164: all dimensions complete a period
  EXPECT_EQ(critical_dimension(128, 1e4, 3), 0);        // no period of 2 pi fits into 3 tokens
}

TEST(ScalingLaws, CriticalBaseFollowsTheTuningLength) {
  EXPECT_NEAR(critical_base(1e4, 4096, 4096), 1e4, 1e-8);
  EXPECT_NEAR(critical_base(1e4, 4096, 8192), 26784.0, 0.1);
  EXPECT_NEAR(critical_base(1e4, 4096, 16384), 71738.4, 0.1);
  EXPECT_NEAR(critical_base(1e4, 4096, 1048576), 2.64855e7, 1e2);
  EXPECT_NEAR(critical_base(1e6, 32768, 131072), 9370821.04, 0.01);  // published for Mistral-Large
}

TEST(ScalingLaws, LargerBasesReachFurther) {
  const auto reach = [](double base) { return predicted_reach(128, 1e4, 4096, base, 4096); };
  EXPECT_NEAR(reach(20000).tokens, 7754.3, 0.1);
  EXPECT_NEAR(reach(120000).tokens, 28108.7, 0.1);
  EXPECT_NEAR(reach(1e6).tokens, 129027, 0.5);
  EXPECT_EQ(reach(1e6).branch, PredictedReach::Branch::larger_base);
  EXPECT_EQ(reach(1e6).critical_dimension, 92);
}

TEST(ScalingLaws, SmallerBasesAreBoundByTheTuningLength) {
  const auto reach = predicted_reach(128, 1e4, 4096, 40000, 16384);  // below beta_0 = 71738
  EXPECT_EQ(reach.branch, PredictedReach::Branch::tune_length);
  EXPECT_DOUBLE_EQ(reach.tokens, 16384);
  EXPECT_EQ(reach.critical_dimension, 96);
}

TEST(ScalingLaws, RefuseATrainingLengthBelowOnePeriod) { EXPECT_THROW(critical_base(1e4, 6, 4096), UsageError); }

}  // namespace
}  // namespace ringbolt
