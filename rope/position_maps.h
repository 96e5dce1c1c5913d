// Position maps: positions other than 0, 1, 2, … for the tokens of a sequence.
//
// For training on short text at long positions the maps are pure functions of (seed, sequence):
// PoSE (arXiv 2309.10400), RandPos, and SkipAlign (arXiv 2405.03939). For evaluation without
// training: grouped and recurrent positions (LongEmbed, arXiv 2404.12096, section 4) and parallel
// context windows (arXiv 2212.10947).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/backend/visibility.h"

namespace ringbolt {

/// Where a sequence's map is drawn from.
struct MapDraw {
  uint64_t seed;
  int64_t sequence;
};

/// PoSE: the sequence in `chunks` parts, part i shifted by u_i ~ U{u_(i-1) … reach - length}, u_0 =
/// 0. The first of two parts has U{1 … (length + 1) / 2} tokens, as released; more parts are cut at
/// random places. The text runs on from part to part (v_i = 0 of the paper). Requires: 1 <= chunks
/// <= length <= reach.
std::vector<int64_t> pose_positions(MapDraw draw, int64_t length, int64_t reach,
                                    int64_t chunks = 2);

/// RandPos: a sorted sample of `length` of the positions below `reach`, without repetition.
/// Requires: length <= reach.
std::vector<int64_t> random_positions(MapDraw draw, int64_t length, int64_t reach);

/// CLEX's positions (its released code): 0, reach - 1, and a sorted sample of those between,
/// without repetition; one token is at 0. Requires: length <= reach.
std::vector<int64_t> stretched_positions(MapDraw draw, int64_t length, int64_t reach);

/// Where SkipAlign skips.
enum class SkipStrategy {
  outer,  ///< between turns
  inner,  ///< at one place inside each turn
  all,    ///< before every token
};

/// SkipAlign, an interpretation: its code is not public and its formula was not available.
/// Positions grow by one within a stretch; at each place where the strategy skips, the sum of skips
/// so far is drawn uniformly from [0, reach - length] and sorted, so that it never shrinks. `turns`
/// are the offsets of the turns in the sequence, from 0 to its length. Requires: reach >= length.
std::vector<int64_t> skip_align_positions(MapDraw draw, std::span<const int64_t> turns,
                                          int64_t reach, SkipStrategy strategy);

/// floor(position / s), s = ceil(length / L).
std::vector<int64_t> grouped_positions(std::span<const int64_t> positions, int64_t length,
                                       int64_t original_length);

/// position mod L.
std::vector<int64_t> recurrent_positions(std::span<const int64_t> positions,
                                         int64_t original_length);

/// Parallel context windows: from 0 in each window, and behind the longest window in the query.
/// That is how the paper (arXiv 2212.10947, section 2) and its released code count; cutting a
/// running text into windows of one length, and taking its end for the query, is an interpretation:
/// the paper has separate texts (examples, documents) for windows.
std::vector<int64_t> parallel_window_positions(std::span<const int64_t> positions,
                                               const ParallelWindows& windows);

}  // namespace ringbolt
