#include "core/backend/distance_slices.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

/// How often each (query row, key row) is visible.
std::map<std::pair<int64_t, int64_t>, int> visible_pairs(SliceList slices) {
  std::map<std::pair<int64_t, int64_t>, int> pairs;
  for (const AttentionSlice& s : slices) {
    for (int64_t i = 0; i < s.queries(); ++i) {
      for (int64_t j = s.first_visible(i); j < s.end_visible(i); ++j)
        ++pairs[{s.query_begin + i, s.key_begin + j}];
    }
  }
  return pairs;
}

TEST(DistanceSlices, ShowEachPairInRangeOnceAndNoOther) {
  int64_t compared = 0;
  for (const int64_t count : {1, 2, 7, 20}) {
    for (const int64_t query_first : {0, 3, 11, 40}) {
      for (const int64_t stride : {1, 3}) {
        for (const DistanceRange range : {DistanceRange{}, DistanceRange{0, 5}, DistanceRange{5},
                                          DistanceRange{2, 9}, DistanceRange{0, 1}}) {
          const TokenStretch queries{100, count, query_first, stride};
          const TokenStretch keys{200, 13, 1, stride};
          std::vector<AttentionSlice> slices;
          append_slices(queries, keys, range, slices);
          auto pairs = visible_pairs(slices);
          for (int64_t i = 0; i < count; ++i) {
            for (int64_t j = 0; j < 13; ++j) {
              const int64_t distance = (query_first + i * stride) - (1 + j * stride);
              const bool expected = distance >= range.least && distance < range.below;
              const auto found = pairs.find({100 + i, 200 + j});
              ASSERT_EQ(found == pairs.end() ? 0 : found->second, expected ? 1 : 0)
                  << count << " queries from " << query_first << ", stride " << stride
                  << ", distance " << distance;
              ++compared;
            }
          }
          ASSERT_TRUE(std::all_of(pairs.begin(), pairs.end(), [](const auto& p) {
            return p.first.first >= 100 && p.first.second >= 200 && p.first.second < 213;
          }));
        }
      }
    }
  }
  EXPECT_EQ(compared, 30 * 13 * 4 * 2 * 5);
}

TEST(DistanceSlices, OfABandAreOne) {
  std::vector<AttentionSlice> near;
  append_slices({0, 4096, 0}, {0, 4096, 0}, DistanceRange{0, 512}, near);
  ASSERT_EQ(near.size(), 1U);
  EXPECT_EQ(near[0], (AttentionSlice{0, 4096, 0, 4096, AttentionSlice::Mask::causal, 0, -512}));
}

}  // namespace
}  // namespace ringbolt
