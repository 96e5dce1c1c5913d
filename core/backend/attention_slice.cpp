#include "core/backend/attention_slice.h"

#include <algorithm>

namespace ringbolt {

int64_t AttentionSlice::pairs() const {
  if (mask == Mask::full) return queries() * keys();
  // Rows [first, saturated) see i + diagonal + 1 keys, rows from `saturated` on see all of them.
  const int64_t first = std::clamp<int64_t>(-diagonal, 0, queries());
  const int64_t saturated = std::clamp<int64_t>(keys() - diagonal, first, queries());
  const int64_t partial_rows = saturated - first;
  const int64_t partial = partial_rows * (first + diagonal + 1) + partial_rows * (partial_rows - 1) / 2;
  return partial + (queries() - saturated) * keys();
}

int64_t attention_pairs(SliceList slices) {
  int64_t pairs = 0;
  for (const AttentionSlice& slice : slices) pairs += slice.pairs();
  return pairs;
}

namespace {

/// The first `rows` query rows of a slice, and the others.
std::pair<AttentionSlice, AttentionSlice> cut(const AttentionSlice& slice, int64_t rows) {
  AttentionSlice top = slice;
  AttentionSlice bottom = slice;
  top.query_end = bottom.query_begin = slice.query_begin + rows;
  if (slice.mask == AttentionSlice::Mask::causal) bottom.diagonal += rows;
  return {top, bottom};
}

}  // namespace

std::pair<std::vector<AttentionSlice>, std::vector<AttentionSlice>> halves(SliceList slices) {
  std::pair<std::vector<AttentionSlice>, std::vector<AttentionSlice>> result;
  int64_t wanted = attention_pairs(slices) / 2;
  for (const AttentionSlice& slice : slices) {
    // The fewest rows that have the pairs still wanted.
    int64_t low = 0;
    int64_t high = slice.queries();
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (cut(slice, middle).first.pairs() < wanted) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const auto [top, bottom] = cut(slice, low);
    wanted -= top.pairs();
    if (top.queries() > 0) result.first.push_back(top);
    if (bottom.queries() > 0) result.second.push_back(bottom);
  }
  return result;
}

std::vector<AttentionSlice> causal_slices(std::span<const int64_t> offsets) {
  std::vector<AttentionSlice> slices;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t begin = offsets[i];
    const int64_t end = offsets[i + 1];
    if (end > begin) slices.push_back({begin, end, begin, end, AttentionSlice::Mask::causal, 0});
  }
  return slices;
}

}  // namespace ringbolt
