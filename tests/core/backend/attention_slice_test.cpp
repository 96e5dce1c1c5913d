#include "core/backend/attention_slice.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/reference/attention.h"

namespace ringbolt {
namespace {

using Mask = AttentionSlice::Mask;

TEST(AttentionSlice, CountsPairsAsBruteForceDoes) {
  int64_t compared = 0;
  for (int64_t queries = 0; queries <= 7; ++queries) {
    for (int64_t keys = 0; keys <= 7; ++keys) {
      for (int64_t diagonal = -9; diagonal <= 9; ++diagonal) {
        for (Mask mask : {Mask::full, Mask::causal}) {
          for (int64_t width = 0; width <= 12; width += 3) {  // 0: no left diagonal
            AttentionSlice slice{3, 3 + queries, 5, 5 + keys, mask, diagonal};
            if (width > 0) slice.left_diagonal = diagonal - width;
            const std::vector<AttentionSlice> cut = without_left_diagonals({&slice, 1});
            int64_t pairs = 0;
            for (int64_t i = 0; i < queries; ++i) {
              const auto visible = reference::visible_keys({&slice, 1}, 3 + i);
              ASSERT_EQ(std::max<int64_t>(0, slice.end_visible(i) - slice.first_visible(i)),
                        std::ssize(visible))
                  << queries << 'x' << keys << " d " << diagonal << " width " << width;
              auto by_parts = reference::visible_keys(cut, 3 + i);
              std::sort(by_parts.begin(), by_parts.end());
              ASSERT_EQ(by_parts, visible);
              pairs += std::ssize(visible);
            }
            ASSERT_EQ(slice.pairs(), pairs)
                << queries << 'x' << keys << " diagonal " << diagonal << " width " << width;
            ASSERT_EQ(attention_pairs(cut), pairs);
            ++compared;
          }
        }
      }
    }
  }
  EXPECT_EQ(compared, 8 * 8 * 19 * 2 * 5);
}

TEST(AttentionSlice, JoinedListsHoldTheSamePairsInAsFewSlicesAsTheyMakeUp) {
  struct Case {
    std::vector<AttentionSlice> list;
    size_t joined;
  };
  const std::vector<Case> cases = {
      {{{0, 4, 0, 7, Mask::full, 0}, {4, 9, 0, 7, Mask::full, 0}}, 1},  // one below the other
      {{{2, 4, 0, 7, Mask::full, 0}, {2, 4, 7, 9, Mask::full, 0}}, 1},  // side by side
      {{{0, 4, 0, 4, Mask::full, 0},
        {0, 4, 4, 9, Mask::full, 0},
        {4, 9, 0, 4, Mask::full, 0},
        {4, 9, 4, 9, Mask::full, 0}},
       1},
      {{{0, 7, 0, 7, Mask::causal, 0},
        {7, 20, 0, 7, Mask::full, 0},
        {7, 20, 7, 20, Mask::causal, 0}},
       1},
      {{{0, 7, 0, 7, Mask::causal, 0},
        {7, 20, 0, 7, Mask::full, 0},
        {7, 20, 7, 20, Mask::causal, 0},
        {20, 30, 0, 7, Mask::full, 0},
        {20, 30, 7, 20, Mask::full, 0},
        {20, 30, 20, 30, Mask::causal, 0}},
       1},
      // What must stay as it is: a gap, other keys, other diagonals, windows, two documents.
      {{{0, 4, 0, 7, Mask::full, 0}, {5, 9, 0, 7, Mask::full, 0}}, 2},
      {{{0, 4, 0, 7, Mask::full, 0}, {4, 9, 0, 8, Mask::full, 0}}, 2},
      {{{0, 7, 0, 7, Mask::causal, -1},
        {7, 20, 0, 7, Mask::full, 0},
        {7, 20, 7, 20, Mask::causal, 0}},
       3},
      {{{0, 7, 0, 7, Mask::causal, 0},
        {7, 20, 0, 7, Mask::full, 0},
        {7, 20, 7, 20, Mask::causal, 1}},
       3},
      {{{0, 4, 0, 7, Mask::full, 0, -2}, {4, 9, 0, 7, Mask::full, 0}}, 2},
      {{{0, 7, 0, 7, Mask::causal, 0}, {7, 20, 7, 20, Mask::causal, 0}}, 2},
      {{}, 0}};
  for (const Case& c : cases) {
    const std::vector<AttentionSlice> actual = joined(c.list);
    EXPECT_EQ(actual.size(), c.joined);
    EXPECT_EQ(attention_pairs(actual), attention_pairs(c.list));
    for (int64_t i = 0; i < 40; ++i) {
      std::vector<int64_t> keys = reference::visible_keys(actual, i),
                           expected = reference::visible_keys(c.list, i);
      std::sort(keys.begin(), keys.end());
      std::sort(expected.begin(), expected.end());
      EXPECT_EQ(keys, expected) << "row " << i;
    }
  }
}

TEST(AttentionSlice, HalvesHoldEachPairOnceAndAreEquallyLarge) {
  const std::vector<std::vector<AttentionSlice>> lists = {
      {{0, 40, 0, 40, Mask::causal, 0}},
      {{0, 7, 0, 7, Mask::causal, 0},
       {7, 20, 0, 7, Mask::full, 0},
       {7, 20, 7, 20, Mask::causal, 0}},
      {{3, 20, 5, 30, Mask::causal, -4}, {20, 21, 0, 30, Mask::full, 0}},
      {{0, 1, 0, 1, Mask::causal, 0}},
      {{0, 40, 0, 40, Mask::causal, 0, -9}},
      {{5, 40, 0, 20, Mask::full, 0, -13}},
      {{0, 5, 0, 5, Mask::causal, -5}},
      {},
  };
  for (const auto& list : lists) {
    const auto [first, second] = halves(list);
    int64_t widest = 0;
    for (int64_t i = 0; i < 40; ++i) {
      std::vector<int64_t> both = reference::visible_keys(first, i);
      const std::vector<int64_t> others = reference::visible_keys(second, i);
      both.insert(both.end(), others.begin(), others.end());
      std::vector<int64_t> whole = reference::visible_keys(list, i);
      std::sort(both.begin(), both.end());
      std::sort(whole.begin(), whole.end());
      EXPECT_EQ(both, whole) << "row " << i;
      widest = std::max(widest, static_cast<int64_t>(whole.size()));
    }
    EXPECT_LE(std::abs(attention_pairs(first) - attention_pairs(second)), 2 * widest);
  }
}

TEST(AttentionSlice, HalvesOfLargeSlicesAreWholeTiles) {
  for (const AttentionSlice& slice : {AttentionSlice{0, 8192, 0, 8192, Mask::causal, 0},
                                      AttentionSlice{2048, 4096, 0, 4096, Mask::full, 0},
                                      AttentionSlice{0, 2176, 0, 2176, Mask::causal, 0}}) {
    const auto [first, second] = halves(std::vector<AttentionSlice>{slice});
    ASSERT_EQ(first.size(), 1U);
    ASSERT_EQ(second.size(), 1U);
    EXPECT_EQ(first[0].queries() % kCutRows, 0);
    EXPECT_EQ(first[0].query_end, second[0].query_begin);
    EXPECT_EQ(first[0].pairs() + second[0].pairs(), slice.pairs());
    // Half a tile of rows more or less on either side.
    EXPECT_LE(std::abs(first[0].pairs() - second[0].pairs()), kCutRows * slice.keys());
  }
}

TEST(AttentionSlice, CountsPairsOfAMillionTokensIn64Bits) {
  const int64_t tokens = int64_t{1} << 20;
  const AttentionSlice slice{0, tokens, 0, tokens, Mask::causal, 0};
  EXPECT_EQ(slice.pairs(), tokens * (tokens + 1) / 2);
}

TEST(CausalSlices, GiveOneSquareADocumentAndSkipEmptyOnes) {
  const std::vector<AttentionSlice> slices = causal_slices(std::vector<int64_t>{0, 3, 3, 8});
  ASSERT_EQ(slices.size(), 2U);
  EXPECT_EQ(slices[0], (AttentionSlice{0, 3, 0, 3, Mask::causal, 0}));
  EXPECT_EQ(slices[1], (AttentionSlice{3, 8, 3, 8, Mask::causal, 0}));
  EXPECT_EQ(attention_pairs(slices), 6 + 15);
  EXPECT_TRUE(causal_slices({}).empty());
}

}  // namespace
}  // namespace ringbolt
