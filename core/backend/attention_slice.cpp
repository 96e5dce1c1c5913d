#include "core/backend/attention_slice.h"

#include <algorithm>

namespace ringbolt {

namespace {

/// Keys at or left of a diagonal, of all rows of a rectangle.
int64_t pairs_left_of(int64_t diagonal, int64_t queries, int64_t keys) {
  // Rows [first, saturated) have i + diagonal + 1 keys, rows from `saturated` on all of them.
  const int64_t first = std::clamp<int64_t>(-diagonal, 0, queries);
  const int64_t saturated = std::clamp<int64_t>(keys - diagonal, first, queries);
  const int64_t partial_rows = saturated - first;
  const int64_t partial =
      partial_rows * (first + diagonal + 1) + partial_rows * (partial_rows - 1) / 2;
  return partial + (queries - saturated) * keys;
}

}  // namespace

int64_t AttentionSlice::pairs() const {
  const int64_t seen =
      mask == Mask::full ? queries() * keys() : pairs_left_of(diagonal, queries(), keys());
  const int64_t hidden = left_diagonal ? pairs_left_of(*left_diagonal, queries(), keys()) : 0;
  return std::max<int64_t>(0, seen - hidden);
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
  if (slice.left_diagonal) bottom.left_diagonal = *slice.left_diagonal + rows;
  return {top, bottom};
}

bool is_full(const AttentionSlice& s) {
  return s.mask == AttentionSlice::Mask::full && !s.left_diagonal;
}
bool is_causal(const AttentionSlice& s) {
  return s.mask == AttentionSlice::Mask::causal && !s.left_diagonal;
}
bool have_same_queries(const AttentionSlice& a, const AttentionSlice& b) {
  return a.query_begin == b.query_begin && a.query_end == b.query_end;
}
bool have_same_keys(const AttentionSlice& a, const AttentionSlice& b) {
  return a.key_begin == b.key_begin && a.key_end == b.key_end;
}

/// The last two slices of the list, as one rectangle.
bool join_rectangles(std::vector<AttentionSlice>& list) {
  if (list.size() < 2) return false;
  AttentionSlice& first = list[list.size() - 2];
  const AttentionSlice& second = list.back();
  if (!is_full(first) || !is_full(second)) return false;
  const bool beside = have_same_queries(first, second) && first.key_end == second.key_begin;
  const bool below = have_same_keys(first, second) && first.query_end == second.query_begin;
  if (!beside && !below) return false;
  first.key_end = second.key_end;
  first.query_end = second.query_end;
  list.pop_back();
  return true;
}

/// The last three: a square on the diagonal, what the rows below see of its keys, and the next
/// square.
bool join_squares(std::vector<AttentionSlice>& list) {
  if (list.size() < 3) return false;
  AttentionSlice& square = list[list.size() - 3];
  const AttentionSlice& between = list[list.size() - 2];
  const AttentionSlice& next = list.back();
  const auto is_square = [](const AttentionSlice& s) {
    return is_causal(s) && s.diagonal == 0 && s.queries() == s.keys();
  };
  if (!is_square(square) || !is_full(between) || !is_square(next)) return false;
  if (!have_same_keys(square, between) || square.query_end != between.query_begin) return false;
  if (!have_same_queries(between, next) || between.key_end != next.key_begin) return false;
  square.query_end = next.query_end;
  square.key_end = next.key_end;
  list.resize(list.size() - 2);
  return true;
}

}  // namespace

std::vector<AttentionSlice> joined(SliceList slices) {
  std::vector<AttentionSlice> result;
  for (const AttentionSlice& slice : slices) {
    result.push_back(slice);
    while (join_rectangles(result) || join_squares(result)) {
    }
  }
  return result;
}

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
    // cuDNN takes lengths of whole tiles as they lie; others are copied and padded.
    if (slice.queries() >= 16 * kCutRows) low = (low + kCutRows / 2) / kCutRows * kCutRows;
    const auto [top, bottom] = cut(slice, std::min(low, slice.queries()));
    wanted -= top.pairs();
    if (top.queries() > 0) result.first.push_back(top);
    if (bottom.queries() > 0) result.second.push_back(bottom);
  }
  return result;
}

namespace {

/// Cuts the pairs low < j - i <= high of a slice's rows i and columns j into rectangles.
class Band {
 public:
  Band(const AttentionSlice& slice, std::vector<AttentionSlice>& slices)
      : slice_(slice),
        low_(slice.left_diagonal.value_or(-slice.queries())),
        high_(slice.mask == AttentionSlice::Mask::full ? slice.keys() : slice.diagonal),
        slices_(slices) {}

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
    AttentionSlice part{slice_.query_begin + begin,   slice_.query_begin + end,
                        slice_.key_begin + key_begin, slice_.key_begin + key_end,
                        AttentionSlice::Mask::full,   0};
    const int64_t diagonal = begin + high_ - key_begin;
    if (diagonal < part.keys() - 1) {
      part.mask = AttentionSlice::Mask::causal;
      part.diagonal = diagonal;
    }
    slices_.push_back(part);
  }

  const AttentionSlice& slice_;
  int64_t low_;
  int64_t high_;
  std::vector<AttentionSlice>& slices_;
};

}  // namespace

std::vector<AttentionSlice> without_left_diagonals(SliceList slices) {
  std::vector<AttentionSlice> all;
  for (const AttentionSlice& slice : slices) {
    if (!slice.left_diagonal) {
      all.push_back(slice);
    } else if (slice.queries() > 0 && slice.keys() > 0) {
      Band(slice, all).cut(0, slice.queries(), slice.keys());
    }
  }
  return all;
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
