// One optimizer step: micro-batches forward and backward, the gradient's norm, clipping, AdamW.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/model/transformer.h"
#include "core/train/schedule.h"
#include "core/train/sequence_order.h"

namespace ringbolt {

/// Reads tokens [begin, begin + out.size()) of a stream.
using TokenReader = std::function<void(int64_t begin, std::span<int32_t> out)>;

struct TrainingRecipe {
  int64_t context_length = 0;         ///< S
  int64_t batch_size = 1;             ///< sequences a micro-batch
  int64_t gradient_accumulation = 1;  ///< micro-batches a step
  LearningRateSchedule schedule;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;  ///< 0 turns clipping off
  uint64_t seed = 1;
  Recompute recompute = Recompute::none;

  int64_t sequences_per_step() const { return batch_size * gradient_accumulation; }
  int64_t tokens_per_step() const { return sequences_per_step() * context_length; }
};

/// Throws: UsageError naming the first value that cannot be.
void validate(const TrainingRecipe& recipe);

struct StepResult {
  LossSum loss;
  double gradient_norm;  ///< before clipping
  double learning_rate;
};

/// Takes step after step over one token stream. Which tokens a step sees depends on its number alone.
class TrainingStep {
 public:
  /// `rotary` and `attention` are for one micro-batch of recipe.batch_size sequences laid one behind the other.
  TrainingStep(Transformer& model, ParameterStore& parameters, const TrainingRecipe& recipe, SequenceOrder order,
               TokenReader read, const RotaryTable& rotary, Attention& attention);

  /// Step number `step`, the first being 1. Throws: NumericError, before any weight changes, where the loss or the
  /// gradient is not finite.
  StepResult run(int64_t step);

 private:
  struct MicroBatch {
    std::vector<int32_t> ids;      ///< (B S)
    std::vector<int32_t> targets;  ///< (B S)
  };
  MicroBatch micro_batch(int64_t step, int64_t micro) const;
  LossSum forward_backward(int64_t step);

  Transformer& model_;
  ParameterStore& parameters_;
  const TrainingRecipe recipe_;
  const SequenceOrder order_;
  const TokenReader read_;
  const RotaryTable& rotary_;
  Attention& attention_;
};

/// What a gradient is multiplied with so that its norm is at most `clip_norm` (0: no limit).
double clip_scale(double gradient_norm, double clip_norm);

}  // namespace ringbolt
