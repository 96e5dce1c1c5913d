#include "rope/position_maps.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

constexpr int64_t kLength = 256;
constexpr int64_t kReach = 1024;

/// Strictly ascending, inside [0, reach), as many as tokens.
void expect_valid(const std::vector<int64_t>& positions) {
  ASSERT_EQ(std::ssize(positions), kLength);
  EXPECT_GE(positions.front(), 0);
  EXPECT_LT(positions.back(), kReach);
  for (size_t t = 1; t < positions.size(); ++t) ASSERT_LT(positions[t - 1], positions[t]);
}

/// Tokens whose position is not one more than the last.
std::vector<int64_t> jumps(const std::vector<int64_t>& positions) {
  std::vector<int64_t> at;
  for (size_t t = 1; t < positions.size(); ++t) {
    if (positions[t] != positions[t - 1] + 1) at.push_back(static_cast<int64_t>(t));
  }
  return at;
}

TEST(Pose, ShiftsTheSecondPartAndReachesTheWholeRange) {
  int64_t farthest = 0;
  int64_t most_first = 0;
  for (int64_t s = 0; s < 500; ++s) {
    const auto positions = pose_positions({1, s}, kLength, kReach);
    expect_valid(positions);
    EXPECT_EQ(positions[0], 0);
    const auto at = jumps(positions);
    EXPECT_LE(at.size(), 1U);
    if (!at.empty()) most_first = std::max(most_first, at[0]);
    farthest = std::max(farthest, positions.back());
  }
  EXPECT_GT(farthest, kReach - 20);
  EXPECT_GT(most_first, 120);
  EXPECT_LE(most_first, 128);  // at most half of the tokens come first
}

TEST(Pose, HasAsManyPartsAsAsked) {
  const auto positions = pose_positions({7, 3}, kLength, int64_t{1} << 30, 5);
  EXPECT_EQ(jumps(positions).size(), 4U);
  EXPECT_TRUE(jumps(pose_positions({7, 3}, kLength, kReach, 1)).empty());
}

TEST(RandPos, IsASortedSampleOfTheWholeRange) {
  std::vector<int> seen(kReach);
  for (int64_t s = 0; s < 400; ++s) {
    const auto positions = random_positions({1, s}, kLength, kReach);
    expect_valid(positions);
    for (const int64_t p : positions) ++seen[static_cast<size_t>(p)];
  }
  // Each position is in a quarter of the samples: 100 of 400, deviation 8.7.
  EXPECT_GT(*std::min_element(seen.begin(), seen.end()), 100 - 5 * 9);
  EXPECT_LT(*std::max_element(seen.begin(), seen.end()), 100 + 5 * 9);
}

TEST(RandPos, OfAllPositionsIsTheSequenceItself) {
  const auto positions = random_positions({1, 0}, kLength, kLength);
  EXPECT_TRUE(jumps(positions).empty());
}

TEST(SkipAlign, SkipsWhereItsStrategySays) {
  const std::vector<int64_t> turns{0, 50, 120, kLength};
  const auto outer = skip_align_positions({1, 4}, turns, kReach, SkipStrategy::outer);
  expect_valid(outer);
  EXPECT_EQ(jumps(outer), (std::vector<int64_t>{50, 120}));
  const auto inner = skip_align_positions({1, 4}, turns, kReach, SkipStrategy::inner);
  expect_valid(inner);
  for (const int64_t at : jumps(inner)) EXPECT_EQ(std::count(turns.begin(), turns.end(), at), 0);
  EXPECT_GE(jumps(inner).size(), 2U);
  const auto all = skip_align_positions({1, 4}, turns, kReach, SkipStrategy::all);
  expect_valid(all);
  EXPECT_GT(jumps(all).size(), 100U);
}

TEST(PositionMaps, AreFunctionsOfSeedAndSequence) {
  const std::vector<int64_t> turns{0, 50, kLength};
  const auto all = [&](MapDraw draw) {
    return std::vector{pose_positions(draw, kLength, kReach),
                       random_positions(draw, kLength, kReach),
                       skip_align_positions(draw, turns, kReach, SkipStrategy::outer)};
  };
  EXPECT_EQ(all({3, 9}), all({3, 9}));
  for (size_t map = 0; map < 3; ++map) {
    EXPECT_NE(all({3, 9})[map], all({3, 10})[map]);
    EXPECT_NE(all({3, 9})[map], all({4, 9})[map]);
  }
}

TEST(GroupedPositions, ShareAPositionAsManyAsTheLengthNeeds) {
  const std::vector<int64_t> positions{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_EQ(grouped_positions(positions, 10, 4),
            (std::vector<int64_t>{0, 0, 0, 1, 1, 1, 2, 2, 2, 3}));  // s = 3
  EXPECT_EQ(grouped_positions(positions, 4, 4), positions);
}

TEST(RecurrentPositions, BeginAnew) {
  EXPECT_EQ(recurrent_positions(std::vector<int64_t>{0, 3, 4, 9}, 4),
            (std::vector<int64_t>{0, 3, 0, 1}));
}

TEST(ParallelWindowPositions, BeginAnewInEachWindowAndBehindTheLongestInTheQuery) {
  const std::vector<int64_t> positions{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  EXPECT_EQ(parallel_window_positions(positions, {4, 10, false}),
            (std::vector<int64_t>{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 4, 5}));
  EXPECT_EQ(parallel_window_positions(positions, {4, 3, false}),
            positions);  // one window: the text itself
  EXPECT_EQ(parallel_window_positions(positions, {4, 0, false}), positions);
}

}  // namespace
}  // namespace ringbolt
