// Which rank holds which tokens of a sequence, and which slices of attention follow from that.
//
// A micro-batch is one buffer of documents laid one behind the other, [offsets[d], offsets[d+1]);
// attention is causal inside a document and nothing crosses documents. A layout gives each rank a
// list of segments: every `stride`-th token of a stretch of one document. Between any two segments
// of a document the visible pairs are one rectangle with a shifted diagonal, so contiguous, zigzag
// and striped layouts, packed or not, are lists of slices and no kernel knows them.
//
// Every rank holds T tokens: what is missing at its end is padding, which no slice touches, no loss
// counts.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/backend/attention_slice.h"
#include "core/backend/visibility.h"

namespace ringbolt {

enum class LayoutKind {
  contiguous,  ///< rank r holds the r-th part: causal work grows with r
  zigzag,      ///< each document in 2P chunks, rank r holds chunks r and 2P-1-r (arXiv 2403.04652,
               ///< Llama 3 arXiv 2407.21783)
  striped,     ///< rank r holds every P-th token (striped attention, arXiv 2311.09431)
};

std::string name_of(LayoutKind kind);

/// Tokens first, first + stride, … (count of them) of a document, by position in it.
struct Segment {
  int64_t document;
  int64_t first;
  int64_t count;
  int64_t stride;
  int64_t local;  ///< where the first of them lies in the rank's buffer
};

class SequenceLayout {
 public:
  /// `offsets` has one more entry than documents and ascends; empty documents are allowed.
  /// Requires: ranks >= 1. `multiple`: T is a multiple of it (the ranks that share a ring position
  /// cut T among themselves).
  SequenceLayout(LayoutKind kind, std::span<const int64_t> offsets, int ranks,
                 int64_t multiple = 1);

  LayoutKind kind() const { return kind_; }
  int ranks() const { return static_cast<int>(segments_.size()); }
  /// T, padding included; the same on every rank.
  int64_t tokens_per_rank() const { return tokens_per_rank_; }
  /// By document, then position.
  std::span<const Segment> segments(int rank) const;
  /// (T): index into the micro-batch's buffer of each of the rank's tokens; -1 for padding.
  std::vector<int64_t> tokens(int rank) const;
  /// (T): position in its document; 0 for padding.
  std::vector<int64_t> positions(int rank) const;

  /// Local queries of one rank x local keys of another. `mask` full: every pair of a document (no
  /// causality). `visibility` further limits the pairs of a causal mask.
  std::vector<AttentionSlice> slices(int query_rank, int key_rank, AttentionSlice::Mask mask,
                                     const Visibility& visibility = {}) const;
  /// The pairs that a rank computes over a whole ring.
  int64_t pairs(int query_rank, AttentionSlice::Mask mask) const;

 private:
  LayoutKind kind_;
  std::vector<int64_t> offsets_;
  std::vector<std::vector<Segment>> segments_;
  int64_t tokens_per_rank_ = 0;
};

}  // namespace ringbolt
