// The unit of attention work: a rectangle of local queries x local keys.
//
// A layout turns (rank, ring step, document boundaries) into a list of slices, and kernels execute
// slices. Contiguous, zigzag and striped layouts, packed documents, micro-batches and chunked
// prefill are lists; whatever skips work is a list without that slice.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace ringbolt {

struct AttentionSlice {
  enum class Mask {
    full,    ///< every query sees every key
    causal,  ///< query row i of the rectangle sees key column j iff j <= i + diagonal
  };

  int64_t query_begin = 0;
  int64_t query_end = 0;
  int64_t key_begin = 0;
  int64_t key_end = 0;
  Mask mask = Mask::full;
  /// Columns by which the causal diagonal is shifted to the right: 0 for a square on the diagonal
  /// of the sequence, keys - queries for queries that are the last of the keys (chunked prefill),
  /// -1 for a striped block of a later rank.
  int64_t diagonal = 0;
  /// Under either mask, key columns j <= i + left_diagonal are hidden from query row i: a sliding
  /// window, whose width is diagonal - left_diagonal.
  std::optional<int64_t> left_diagonal = std::nullopt;

  int64_t queries() const { return query_end - query_begin; }
  int64_t keys() const { return key_end - key_begin; }
  /// Query row i sees the keys [first_visible(i), end_visible(i)) of the rectangle; none where the
  /// first is the larger.
  int64_t first_visible(int64_t i) const {
    return left_diagonal ? clamped(i + *left_diagonal + 1) : 0;
  }
  int64_t end_visible(int64_t i) const {
    return mask == Mask::full ? keys() : clamped(i + diagonal + 1);
  }
  /// Query-key pairs that are computed.
  int64_t pairs() const;

  friend bool operator==(const AttentionSlice&, const AttentionSlice&) = default;

  int64_t clamped(int64_t key) const { return key < 0 ? 0 : (key > keys() ? keys() : key); }
};

using SliceList = std::span<const AttentionSlice>;

/// Query-key pairs of the whole list. One pair costs 4 D floating-point operations a head forward,
/// 10 D backward.
int64_t attention_pairs(SliceList slices);

/// The same pairs by fewer slices: neighbours of the list that make up one rectangle, or one causal
/// square cut into two squares and the rectangle between them, become one. Each slice costs a
/// device a call, and each call a merge.
std::vector<AttentionSlice> joined(SliceList slices);

/// Two lists of the same pairs, cut by query rows so that each has half of them, give or take a
/// row; large slices are cut at a multiple of kCutRows, 3 % of their rows away at most.
inline constexpr int64_t kCutRows = 128;
std::pair<std::vector<AttentionSlice>, std::vector<AttentionSlice>> halves(SliceList slices);

/// The same pairs by slices without a left diagonal, for a device that has none: about two for each
/// row of a window.
std::vector<AttentionSlice> without_left_diagonals(SliceList slices);

/// One causal square a document: documents [offsets[i], offsets[i+1]) of one token buffer,
/// block-diagonal. A micro-batch of B sequences is the list for offsets 0, S, 2S, …
std::vector<AttentionSlice> causal_slices(std::span<const int64_t> offsets);

}  // namespace ringbolt
