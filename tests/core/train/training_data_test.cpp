#include "core/train/training_data.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

constexpr int64_t kLength = 10;
constexpr int64_t kStream = 61;  // six sequences and the last one's last target

/// Token t of the stream is t.
void count_up(int64_t begin, std::span<int32_t> out) {
  std::iota(out.begin(), out.end(), static_cast<int32_t>(begin));
}

TrainingData data(std::vector<int64_t> documents) {
  return {SequenceOrder(kStream, kLength, 1), count_up, std::move(documents)};
}

TEST(TrainingData, JoinedDocumentsAreWholeSequencesWithEveryTarget) {
  const TrainingBatch batch = data({}).batch(0, 3);
  EXPECT_EQ(batch.offsets, (std::vector<int64_t>{0, 10, 20, 30}));
  ASSERT_EQ(batch.ids.size(), 30U);
  for (size_t t = 0; t < 30; ++t) EXPECT_EQ(batch.targets[t], batch.ids[t] + 1);
  EXPECT_EQ(data({}).counted_targets(0, 3), 30);
}

TEST(TrainingData, SeparateDocumentsEndAtTheirLastTokenWhichHasNoTarget) {
  // Documents of one token, over the edge of sequences, and one that begins with a sequence.
  const std::vector<int64_t> documents{0, 3, 4, 18, 20, 39, 50, 61};
  const TrainingData separate = data(documents);
  const TrainingBatch all = separate.batch(0, 6);
  ASSERT_EQ(all.ids.size(), 60U);
  size_t offset = 0;
  int64_t counted = 0;
  for (size_t t = 0; t < 60; ++t) {
    const auto is_in = [&](int64_t token) {
      return std::find(documents.begin(), documents.end(), token) != documents.end();
    };
    const bool begins = t % kLength == 0 || is_in(all.ids[t]);
    if (begins) {
      EXPECT_EQ(all.offsets[offset++], static_cast<int64_t>(t));
    }
    const bool ends = is_in(all.ids[t] + 1);
    EXPECT_EQ(all.targets[t], ends ? -1 : all.ids[t] + 1);
    if (!ends) ++counted;
  }
  EXPECT_EQ(all.offsets[offset], 60);
  EXPECT_EQ(offset + 1, all.offsets.size());
  EXPECT_EQ(separate.counted_targets(0, 6), counted);
  EXPECT_EQ(counted,
            54);  // each of the documents but the first begins behind a token without a target
}

TEST(TrainingData, ABatchIsItsPartsOneBehindTheOther) {
  const TrainingData separate = data({0, 3, 4, 18, 20, 39, 50, 61});
  const TrainingBatch whole = separate.batch(2, 4);
  std::vector<int32_t> ids;
  for (const int64_t first : {2, 4}) {
    const TrainingBatch part = separate.batch(first, 2);
    ids.insert(ids.end(), part.ids.begin(), part.ids.end());
  }
  EXPECT_EQ(ids, whole.ids);
  EXPECT_EQ(separate.counted_targets(2, 2) + separate.counted_targets(4, 2),
            separate.counted_targets(2, 4));
}

}  // namespace
}  // namespace ringbolt
