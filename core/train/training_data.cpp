#include "core/train/training_data.h"

#include <algorithm>
#include <utility>

namespace ringbolt {

TrainingData::TrainingData(SequenceOrder order, TokenReader read,
                           std::vector<int64_t> document_offsets)
    : order_(order), read_(std::move(read)), document_offsets_(std::move(document_offsets)) {}

std::span<const int64_t> TrainingData::beginnings(int64_t begin, int64_t end) const {
  const auto first = std::upper_bound(document_offsets_.begin(), document_offsets_.end(), begin);
  const auto last = std::upper_bound(first, document_offsets_.end(), end);
  return {first, last};
}

TrainingBatch TrainingData::batch(int64_t first, int64_t sequences) const {
  const int64_t length = context_length();
  TrainingBatch batch;
  batch.offsets.push_back(0);
  std::vector<int32_t> tokens(static_cast<size_t>(length) + 1);
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t begin = order_.begin(first + s);
    const int64_t buffer = s * length;
    read_(begin, tokens);
    batch.ids.insert(batch.ids.end(), tokens.begin(), tokens.end() - 1);
    batch.targets.insert(batch.targets.end(), tokens.begin() + 1, tokens.end());
    for (const int64_t document : beginnings(begin, begin + length)) {
      const int64_t offset = buffer + document - begin;
      batch.targets[static_cast<size_t>(offset - 1)] = -1;
      if (offset < buffer + length && offset > batch.offsets.back())
        batch.offsets.push_back(offset);
    }
    batch.offsets.push_back(buffer + length);
  }
  return batch;
}

int64_t TrainingData::counted_targets(int64_t first, int64_t sequences) const {
  int64_t counted = sequences * context_length();
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t begin = order_.begin(first + s);
    counted -= std::ssize(beginnings(begin, begin + context_length()));
  }
  return counted;
}

}  // namespace ringbolt
