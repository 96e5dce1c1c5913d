// One optimizer step: micro-batches forward and backward, the gradient's norm, clipping, AdamW.
//
// Written once for one rank and for many: the placement says which tokens are mine, and sums; the
// store reduces gradients.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/model/placement.h"
#include "core/model/transformer.h"
#include "core/train/schedule.h"
#include "core/train/trained_rotary.h"
#include "core/train/training_data.h"

namespace ringbolt {

struct TrainingRecipe {
  int64_t context_length = 0;         ///< S
  int64_t batch_size = 1;             ///< sequences a micro-batch
  int64_t gradient_accumulation = 1;  ///< micro-batches a step
  int64_t data_ranks = 1;             ///< groups of ranks, each with micro-batches of its own
  LearningRateSchedule schedule;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;  ///< 0 turns clipping off
  uint64_t seed = 1;
  Recompute recompute = Recompute::none;

  int64_t sequences_per_step() const { return batch_size * gradient_accumulation * data_ranks; }
  int64_t tokens_per_step() const { return sequences_per_step() * context_length; }
};

/// Throws: UsageError naming the first value that cannot be.
void validate(const TrainingRecipe& recipe);

/// The same on all ranks.
struct StepResult {
  LossSum loss;
  double gradient_norm;  ///< before clipping, without that of a rotary method's own weights …
  double rotary_gradient_norm;  ///< … which is clipped on its own
  double learning_rate;
};

/// The positions (S) that rotation sees for the tokens of a sequence, where they are not 0, 1, 2,
/// …: a pure function of the sequence's number, so that it is the same on any number of ranks.
using SequencePositions = std::function<std::vector<int64_t>(int64_t sequence)>;

/// Takes step after step over one token stream. Which sequences a step sees depends on its number
/// and on sequences_per_step() alone: d data ranks with a d-th of the accumulation take those of
/// one.
class TrainingStep {
 public:
  /// `placement` and `parameters` are over the same ranks. With `trained`, which must outlive it,
  /// the angles are that one's, and neither `rotary` nor `positions` is asked. Requires:
  /// recipe.data_ranks is the placement's.
  TrainingStep(Transformer& model, ParameterStore& parameters, Placement& placement,
               const TrainingRecipe& recipe, TrainingData data, RotaryTables rotary,
               SequencePositions positions = {}, TrainedRotary* trained = nullptr);

  /// Step number `step`, the first being 1. Throws, on all ranks and before any weight changes:
  /// NumericError where the loss or the gradient is not finite. Collective.
  StepResult run(int64_t step);

 private:
  LossSum forward_backward(int64_t step);
  std::vector<int64_t> positions_of(int64_t first_sequence, const PlacedTokens& mine) const;
  const RotaryTable& table_of(int64_t first_sequence, const PlacedTokens& mine);

  Transformer& model_;
  ParameterStore& parameters_;
  Placement& placement_;
  const TrainingRecipe recipe_;
  const TrainingData data_;
  LastRotaryTable rotary_;
  const SequencePositions positions_;
  TrainedRotary* trained_;
};

/// What a gradient is multiplied with so that its norm is at most `clip_norm` (0: no limit).
double clip_scale(double gradient_norm, double clip_norm);

}  // namespace ringbolt
