// Attention over ranks that are processes: the same comparisons as between threads.
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "tests/parallel/attention_case.h"
#include "tests/support/ranks_main.h"

namespace ringbolt {
namespace {

using namespace testing_support;

TEST(AttentionOnMpiRanks, MatchesTheWholeSequenceEveryWay) {
  const int64_t cases = expect_whole_sequence_every_way(test::world());
  EXPECT_EQ(cases > 100, test::world().rank() == 0) << cases;
}

TEST(AttentionOnMpiRanks, IsRightForLongerMessages) {
  // Rows of 1 KiB: messages beyond what goes out eagerly.
  const WholeProblem problem =
      random_problem({0, 200, 201, 509}, AttentionSlice::Mask::causal, {4, 2, 64}, DType::f32, 3);
  expect_every_way(test::world(), "long", problem, attention_bound(DType::f32));
}

TEST(AttentionOnMpiRanks, IsRightForDocumentsOfOneToken) {
  std::vector<int64_t> offsets(42);
  std::iota(offsets.begin(), offsets.end(), 0);
  expect_every_way(test::world(), "one token",
                   random_problem(offsets, AttentionSlice::Mask::causal, {4, 2, 16}, DType::f32, 7),
                   attention_bound(DType::f32), 0.1);
}

}  // namespace
}  // namespace ringbolt
