#include "core/backend/visibility.h"

#include <map>

#include <gtest/gtest.h>

#include "tests/support/reference/attention.h"

namespace ringbolt {
namespace {

TEST(ParallelWindows, SeeTheirWindowAndTheQueryAllOfThem) {
  const ParallelWindows w{4, 10, true};  // windows [0, 4), [4, 8), [8, 10)
  EXPECT_TRUE(w.sees(3, 0));
  EXPECT_FALSE(w.sees(4, 3));
  EXPECT_TRUE(w.sees(5, 4));
  EXPECT_FALSE(w.sees(9, 7));
  EXPECT_TRUE(w.sees(10, 0));
  EXPECT_FALSE(w.sees(10, 4)) << "the query sees one <s> only";
  EXPECT_TRUE(w.sees(10, 5));
  EXPECT_FALSE(w.sees(12, 8));
  EXPECT_TRUE(w.sees(12, 10));
  EXPECT_FALSE(w.sees(10, 11));
  EXPECT_TRUE((ParallelWindows{4, 10, false}.sees(10, 4)));
}

TEST(ParallelWindows, AppendEachVisiblePairOnceAndNoOther) {
  int64_t compared = 0;
  for (const int64_t stride : {1, 3}) {
    for (const ParallelWindows& w :
         {ParallelWindows{4, 10, true}, ParallelWindows{5, 15, false}, ParallelWindows{7, 0, true},
          ParallelWindows{100, 20, true}, ParallelWindows{2, 100, true}}) {
      for (const int64_t query_first : {0, 2, 9, 14}) {
        for (const int64_t key_first : {0, 1, 8}) {
          const TokenStretch queries{0, 11, query_first, stride};
          const TokenStretch keys{0, 9, key_first, stride};
          std::vector<AttentionSlice> slices;
          append_slices(queries, keys, Visibility(w), slices);
          for (int64_t i = 0; i < queries.count; ++i) {
            std::map<int64_t, int> seen;
            for (const int64_t j : reference::visible_keys(slices, i)) ++seen[j];
            for (int64_t j = 0; j < keys.count; ++j) {
              const bool expected = w.sees(query_first + i * stride, key_first + j * stride);
              ASSERT_EQ(seen[j], expected ? 1 : 0)
                  << w.window << ": " << i << ", " << j << ", stride " << stride;
              ++compared;
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(compared, 2 * 5 * 4 * 3 * 11 * 9);
}

TEST(ParallelWindows, ThatHoldAllAreCausalAttention) {
  const std::vector<int64_t> offsets{0, 30, 77};
  EXPECT_EQ(attention_pairs(visible_slices(offsets, ParallelWindows{77, 77, true})),
            attention_pairs(causal_slices(offsets)));
  EXPECT_EQ(visible_slices(offsets, Visibility()), causal_slices(offsets));
}

TEST(Visibility, ByDistanceMakesTheWholeOfItsTwoParts) {
  const std::vector<int64_t> offsets{0, 30, 77};
  const auto near = visible_slices(offsets, DistanceRange{0, 8});
  const auto far = visible_slices(offsets, DistanceRange{8});
  EXPECT_EQ(attention_pairs(near) + attention_pairs(far), attention_pairs(causal_slices(offsets)));
  EXPECT_EQ(far.size(), 2U);  // a shifted diagonal each
}

}  // namespace
}  // namespace ringbolt
