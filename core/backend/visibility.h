// Which keys of its document a query sees: those before it, limited by distance or to parallel
// context windows.
//
// A layout and a cache turn a visibility into slices between stretches of tokens; kernels know only
// slices.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/backend/attention_slice.h"
#include "core/backend/distance_slices.h"

namespace ringbolt {

/// Parallel context windows (arXiv 2212.10947, section 2): a document is a context, cut into
/// windows that do not see each other, and a query, whose tokens see every window and the query's
/// tokens before them.
struct ParallelWindows {
  int64_t window = 0;       ///< tokens of each window; the last one has what is left
  int64_t query_begin = 0;  ///< tokens of the context; the query's tokens are those from here on
  /// Each window begins with a token that is not text (<s>), and the query sees only the first
  /// window's. (The released code keeps that of the longest window, which here is the first.)
  bool starts = false;

  /// Where query positions begin: behind the longest window.
  int64_t longest() const { return window < query_begin ? window : query_begin; }
  /// Whether the token at position m sees the one at n.
  bool sees(int64_t m, int64_t n) const;
  friend bool operator==(const ParallelWindows&, const ParallelWindows&) = default;
};

struct Visibility {
  DistanceRange distances;
  std::optional<ParallelWindows> windows;  ///< at all distances

  Visibility() = default;
  Visibility(DistanceRange range) : distances(range) {}
  Visibility(const ParallelWindows& parallel) : windows(parallel) {}
  bool is_causal() const { return !windows && distances.is_causal(); }
  friend bool operator==(const Visibility&, const Visibility&) = default;
};

/// Appends the slices of the pairs of two stretches of one document that are visible. Requires: the
/// same stride.
void append_slices(const TokenStretch& queries, const TokenStretch& keys,
                   const Visibility& visibility, std::vector<AttentionSlice>& slices);

/// For documents [offsets[d], offsets[d+1]) of one buffer, each by itself. The default gives
/// causal_slices.
std::vector<AttentionSlice> visible_slices(std::span<const int64_t> offsets,
                                           const Visibility& visibility);

}  // namespace ringbolt
