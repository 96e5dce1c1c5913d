// Slices for the pairs of tokens that lie some distance apart: what attention in two parts is made
// of, and windows.
//
// One slice a pair of stretches: its diagonal hides keys that are too near or later, its left
// diagonal those too far away.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "core/backend/attention_slice.h"

namespace ringbolt {

/// Which keys a query sees, by position of the query - position of the key: least <= distance <
/// below. The default is causal attention.
struct DistanceRange {
  int64_t least = 0;
  int64_t below = std::numeric_limits<int64_t>::max();

  bool is_causal() const { return least == 0 && below == std::numeric_limits<int64_t>::max(); }
  friend bool operator==(const DistanceRange&, const DistanceRange&) = default;
};

/// Rows [row, row + count) of a buffer, at positions first, first + stride, …
struct TokenStretch {
  int64_t row;
  int64_t count;
  int64_t first;
  int64_t stride = 1;
};

/// Appends the slices of the queries and keys of two stretches of one document whose distance is in
/// the range. Requires: the same stride.
void append_slices(const TokenStretch& queries, const TokenStretch& keys, DistanceRange range,
                   std::vector<AttentionSlice>& slices);

}  // namespace ringbolt
