// Rotary frequencies that have weights of their own, trained with the model (CLEX): rope/ has the
// one there is.
//
// In a step: a table for each micro-batch, whose `dangles` backward fills; then angles_complete();
// and once, after the last micro-batch, backward() into the store's rotary group. Which angles a
// token gets depends on its sequence's number alone, so it is the same on any number of ranks and
// after any restart.
#pragma once

#include <cstdint>
#include <span>

#include "core/model/rotary_table.h"

namespace ringbolt {

/// A token of a training sequence.
struct SequenceToken {
  int64_t sequence;  ///< its number, as SequenceOrder counts
  int64_t index;     ///< 0 … S - 1 in it; -1 is padding
};

class TrainedRotary {
 public:
  virtual ~TrainedRotary() = default;
  /// The table of tokens (T) by the present weights, with room for the gradient of its angles,
  /// which is zero. Holds until the next call.
  virtual const RotaryTable& table(std::span<const SequenceToken> tokens) = 0;
  /// The gradient of the last table's angles is whole: this rank's share of the micro-batch.
  virtual void angles_complete() = 0;
  /// Adds to `gradient`, the flat rotary group (f32), this rank's share from all micro-batches
  /// since the last call.
  virtual void backward(View gradient) = 0;
};

}  // namespace ringbolt
