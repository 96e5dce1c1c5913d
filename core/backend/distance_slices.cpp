#include "core/backend/distance_slices.h"

#include <algorithm>

namespace ringbolt {
namespace {

int64_t divide_down(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

/// The pairs (i, j) of rows with low < j - i <= high.
class Band {
 public:
  Band(const TokenStretch& queries, const TokenStretch& keys, int64_t low, int64_t high,
       std::vector<AttentionSlice>& slices)
      : queries_(queries), keys_(keys), low_(low), high_(high), slices_(slices) {}

  /// Query rows [begin, end), keys below key_end.
  void cut(int64_t begin, int64_t end, int64_t key_end) {
    // From here on no query of them is too far away.
    const int64_t clear = std::clamp<int64_t>(low_ + end, 0, key_end);
    add(begin, end, clear, key_end);
    // Left of it a triangle is hidden, unless nothing there is visible.
    if (end - begin == 1 || low_ + begin + 1 >= clear || clear == 0) return;
    const int64_t middle = begin + (end - begin) / 2;
    cut(begin, middle, clear);
    cut(middle, end, clear);
  }

 private:
  /// A rectangle of which only the right limit hides something.
  void add(int64_t begin, int64_t end, int64_t key_begin, int64_t key_end) {
    key_end = std::min(key_end, high_ + end);  // what the last query sees
    if (key_begin >= key_end) return;
    AttentionSlice slice{queries_.row + begin, queries_.row + end,         keys_.row + key_begin,
                         keys_.row + key_end,  AttentionSlice::Mask::full, 0};
    const int64_t diagonal = begin + high_ - key_begin;
    if (diagonal < slice.keys() - 1) {
      slice.mask = AttentionSlice::Mask::causal;
      slice.diagonal = diagonal;
    }
    slices_.push_back(slice);
  }

  const TokenStretch& queries_;
  const TokenStretch& keys_;
  int64_t low_;
  int64_t high_;
  std::vector<AttentionSlice>& slices_;
};

}  // namespace

void append_slices(const TokenStretch& queries, const TokenStretch& keys, DistanceRange range,
                   std::vector<AttentionSlice>& slices) {
  if (queries.count <= 0 || keys.count <= 0) return;
  // distance = queries.first - keys.first + (i - j) stride
  const int64_t start = queries.first - keys.first;
  const int64_t high = divide_down(start - range.least, queries.stride);
  const bool bounded = range.below != std::numeric_limits<int64_t>::max();
  const int64_t low = bounded ? divide_down(start - range.below, queries.stride) : -queries.count;
  Band(queries, keys, low, high, slices).cut(0, queries.count, keys.count);
}

}  // namespace ringbolt
