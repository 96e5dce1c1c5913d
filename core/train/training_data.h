// The training sequences of a token stream, and what becomes of the documents inside them.
//
// A sequence is a stretch of the stream, so it may hold the end of one document, some whole ones,
// and the beginning of another. Joined, they are one text: attention and positions run through.
// Separate, attention stays inside a document and positions begin anew in each; then a document's
// last token has no target, because what follows belongs to another text. (A document that a
// sequence cuts goes on at position 0 in the next one.)
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/train/sequence_order.h"

namespace ringbolt {

/// Reads tokens [begin, begin + out.size()) of a stream.
using TokenReader = std::function<void(int64_t begin, std::span<int32_t> out)>;

/// Sequences laid one behind the other in one buffer.
struct TrainingBatch {
  std::vector<int32_t> ids;      ///< (B S)
  std::vector<int32_t> targets;  ///< (B S), already shifted; -1 is not counted
  std::vector<int64_t> offsets;  ///< of the documents that attention and positions see: whole
                                 ///< sequences where they are joined
};

class TrainingData {
 public:
  /// `document_offsets`: where each document of the stream begins, strictly ascending from 0, and
  /// the end; empty joins them all.
  TrainingData(SequenceOrder order, TokenReader read, std::vector<int64_t> document_offsets = {});

  int64_t context_length() const { return order_.context_length(); }
  /// Sequences first, first + 1, … of the order.
  TrainingBatch batch(int64_t first, int64_t sequences) const;
  /// Targets that count in them. Reads nothing, so every rank can know it of all sequences of a
  /// step.
  int64_t counted_targets(int64_t first, int64_t sequences) const;

 private:
  /// The documents that begin in (begin, end].
  std::span<const int64_t> beginnings(int64_t begin, int64_t end) const;

  SequenceOrder order_;
  TokenReader read_;
  std::vector<int64_t> document_offsets_;
};

}  // namespace ringbolt
