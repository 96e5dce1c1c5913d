#include "core/backend/visibility.h"

#include <algorithm>

namespace ringbolt {
namespace {

/// A stretch's tokens that lie in one window; `window` is kQuery for those of the query.
struct Piece {
  TokenStretch tokens;
  int64_t window;
};
constexpr int64_t kQuery = -1;

/// The first index of a stretch whose position is at least `position`, at most its count.
int64_t index_from(const TokenStretch& s, int64_t position) {
  if (position <= s.first) return 0;
  return std::min(s.count, (position - s.first + s.stride - 1) / s.stride);
}

std::vector<Piece> pieces_of(const TokenStretch& s, const ParallelWindows& w) {
  std::vector<Piece> pieces;
  for (int64_t i = 0; i < s.count;) {
    const int64_t position = s.first + i * s.stride;
    const bool query = position >= w.query_begin;
    const int64_t window = query ? kQuery : position / w.window;
    const int64_t end =
        query ? s.count : index_from(s, std::min((window + 1) * w.window, w.query_begin));
    pieces.push_back({{s.row + i, end - i, position, s.stride}, window});
    i = end;
  }
  return pieces;
}

/// The part of a window that queries see.
TokenStretch seen_by_queries(const Piece& keys, const ParallelWindows& w) {
  TokenStretch s = keys.tokens;
  if (!w.starts || keys.window <= 0 || s.first != keys.window * w.window) return s;
  return {s.row + 1, s.count - 1, s.first + s.stride, s.stride};
}

void append_windows(const TokenStretch& queries, const TokenStretch& keys, const ParallelWindows& w,
                    std::vector<AttentionSlice>& slices) {
  const std::vector<Piece> key_pieces = pieces_of(keys, w);
  for (const Piece& query : pieces_of(queries, w)) {
    for (const Piece& key : key_pieces) {
      if (query.window == key.window) {
        append_slices(query.tokens, key.tokens, DistanceRange{}, slices);
      } else if (query.window == kQuery) {
        append_slices(query.tokens, seen_by_queries(key, w), DistanceRange{}, slices);
      }
    }
  }
}

}  // namespace

bool ParallelWindows::sees(int64_t m, int64_t n) const {
  if (n > m) return false;
  if (n >= query_begin) return true;
  if (m < query_begin) return m / window == n / window;
  return !starts || n < window || n % window != 0;
}

void append_slices(const TokenStretch& queries, const TokenStretch& keys,
                   const Visibility& visibility, std::vector<AttentionSlice>& slices) {
  if (visibility.windows) {
    append_windows(queries, keys, *visibility.windows, slices);
  } else {
    append_slices(queries, keys, visibility.distances, slices);
  }
}

std::vector<AttentionSlice> visible_slices(std::span<const int64_t> offsets,
                                           const Visibility& visibility) {
  if (visibility.is_causal()) return causal_slices(offsets);
  std::vector<AttentionSlice> slices;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    const TokenStretch document{offsets[d], offsets[d + 1] - offsets[d], 0};
    append_slices(document, document, visibility, slices);
  }
  return slices;
}

}  // namespace ringbolt
