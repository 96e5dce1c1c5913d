#include "core/backend/distance_slices.h"

#include <algorithm>

namespace ringbolt {
namespace {

int64_t divide_down(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

}  // namespace

void append_slices(const TokenStretch& queries, const TokenStretch& keys, DistanceRange range,
                   std::vector<AttentionSlice>& slices) {
  if (queries.count <= 0 || keys.count <= 0) return;
  // distance = queries.first - keys.first + (i - j) stride
  const int64_t start = queries.first - keys.first;
  const int64_t high = divide_down(start - range.least, queries.stride);
  const bool bounded = range.below != std::numeric_limits<int64_t>::max();
  const int64_t low = bounded ? divide_down(start - range.below, queries.stride) : -queries.count;
  // Row i sees the columns low < j - i <= high. Rows that see none are left out, and columns that
  // none sees.
  const int64_t begin = std::max<int64_t>(0, -high);
  const int64_t end = std::min(queries.count, keys.count - low - 1);
  const int64_t key_begin = std::max<int64_t>(0, begin + low + 1);
  const int64_t key_end = std::min(keys.count, end + high);
  if (begin >= end || key_begin >= key_end || low >= high) return;
  AttentionSlice slice{queries.row + begin, queries.row + end, keys.row + key_begin,
                       keys.row + key_end};
  if (begin + high < key_end - 1) {
    slice.mask = AttentionSlice::Mask::causal;
    slice.diagonal = begin + high - key_begin;
  }
  if (end - 1 + low >= key_begin) slice.left_diagonal = begin + low - key_begin;
  slices.push_back(slice);
}

}  // namespace ringbolt
