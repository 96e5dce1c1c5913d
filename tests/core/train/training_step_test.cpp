#include "core/train/training_step.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace ringbolt {
namespace {

TEST(Permutation, IsABijectionForOddSizes) {
  for (const int64_t n : {1, 2, 3, 17, 64, 1000, 4097}) {
    const Permutation order(n, 42, 7);
    std::set<int64_t> seen;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t image = order(i);
      EXPECT_GE(image, 0);
      EXPECT_LT(image, n);
      seen.insert(image);
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), n);
  }
}

TEST(Permutation, MovesMostElementsAndDependsOnSeedAndStream) {
  constexpr int64_t kSize = 1000;
  const auto images = [](uint64_t seed, uint64_t stream) {
    const Permutation order(kSize, seed, stream);
    std::vector<int64_t> all(kSize);
    for (int64_t i = 0; i < kSize; ++i) all[static_cast<size_t>(i)] = order(i);
    return all;
  };
  const auto base = images(1, 1);
  int64_t fixed = 0;
  for (int64_t i = 0; i < kSize; ++i) fixed += base[static_cast<size_t>(i)] == i;
  EXPECT_LT(fixed, 10);  // 1 is expected of a random permutation
  EXPECT_NE(base, images(2, 1));
  EXPECT_NE(base, images(1, 2));
  EXPECT_EQ(base, images(1, 1));
}

TEST(SequenceOrder, EachEpochVisitsEverySequenceOnceInAnotherOrder) {
  const SequenceOrder order(7 * 10 + 1, 10, 5);
  ASSERT_EQ(order.sequences_per_epoch(), 7);
  std::vector<int64_t> first;
  std::vector<int64_t> second;
  for (int64_t i = 0; i < 7; ++i) {
    first.push_back(order.begin(i));
    second.push_back(order.begin(i + 7));
  }
  EXPECT_NE(first, second);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, (std::vector<int64_t>{0, 10, 20, 30, 40, 50, 60}));
  EXPECT_EQ(second, first);
}

TEST(SequenceOrder, RefusesAContextLongerThanTheData) {
  EXPECT_NO_THROW(SequenceOrder(11, 10, 1));
  EXPECT_THROW(SequenceOrder(10, 10, 1), UsageError);
}

TEST(LearningRateSchedule, WarmsUpLinearlyThenKeepsItsShape) {
  LearningRateSchedule s{LearningRateSchedule::Shape::cosine, 1.0, 0.1, 10, 110};
  EXPECT_DOUBLE_EQ(s.at(1), 0.1);
  EXPECT_DOUBLE_EQ(s.at(5), 0.5);
  EXPECT_DOUBLE_EQ(s.at(10), 1.0);
  EXPECT_NEAR(s.at(60), 0.55, 1e-12);
  EXPECT_NEAR(s.at(110), 0.1, 1e-12);
  EXPECT_NEAR(s.at(500), 0.1, 1e-12);
  s.shape = LearningRateSchedule::Shape::linear;
  EXPECT_NEAR(s.at(35), 0.775, 1e-12);
  s.shape = LearningRateSchedule::Shape::constant;
  EXPECT_DOUBLE_EQ(s.at(109), 1.0);
}

TEST(ClipScale, ActsOnlyAboveTheNorm) {
  EXPECT_DOUBLE_EQ(clip_scale(0.5, 1), 1);
  EXPECT_DOUBLE_EQ(clip_scale(4, 1), 0.25);
  EXPECT_DOUBLE_EQ(clip_scale(4, 0), 1);
}

}  // namespace
}  // namespace ringbolt
