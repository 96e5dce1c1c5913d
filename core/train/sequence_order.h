// Which tokens a training step sees: the token stream cut into sequences, drawn in an order that is
// a pure function of the seed, so it is the same on any number of ranks and after any restart.
#pragma once

#include <cstdint>

namespace ringbolt {

/// A random permutation of [0, n) without a table: a Feistel network over the next power of four,
/// walked until it falls inside (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA
/// 2002).
class Permutation {
 public:
  /// Requires: n > 0.
  Permutation(int64_t n, uint64_t seed, uint64_t stream);
  int64_t operator()(int64_t i) const;

 private:
  uint64_t encrypt(uint64_t x) const;

  uint64_t n_;
  uint64_t seed_;
  uint64_t stream_;
  int half_bits_;
};

/// Sequence `index` (0, 1, 2, … over all steps and epochs) is tokens [begin, begin +
/// context_length] of the stream: inputs all but the last, targets all but the first. Each epoch
/// visits every whole sequence once, in an order of its own.
class SequenceOrder {
 public:
  /// Throws: UsageError where the stream is shorter than one sequence and its last target.
  SequenceOrder(int64_t stream_tokens, int64_t context_length, uint64_t seed);
  int64_t context_length() const { return context_length_; }
  int64_t sequences_per_epoch() const { return sequences_; }
  /// First token of a sequence.
  int64_t begin(int64_t index) const;

 private:
  int64_t context_length_;
  int64_t sequences_;
  uint64_t seed_;
};

}  // namespace ringbolt
