#include "core/train/training_step.h"

#include <cmath>
#include <utility>

#include "core/base/error.h"

namespace ringbolt {
namespace {

void require(bool condition, const std::string& problem, const std::string& why,
             const std::string& what_to_try) {
  if (!condition) throw UsageError(message(problem, why, what_to_try));
}

void require_finite(int64_t step, const StepResult& result) {
  const double mean = result.loss.loss / static_cast<double>(result.loss.tokens);
  const double norm = std::hypot(result.gradient_norm, result.rotary_gradient_norm);
  if (std::isfinite(mean) && std::isfinite(norm)) return;
  throw NumericError(
      message(concat("step ", step, ": the loss is ", mean, " and the gradient norm ", norm),
              "training diverged", "Try a lower --learning-rate or a longer warm-up."));
}

}  // namespace

void validate(const TrainingRecipe& r) {
  require(r.context_length > 0, concat("the context length is ", r.context_length),
          "a sequence has at least one token", "Use --context-length 256 or so.");
  require(r.batch_size > 0 && r.gradient_accumulation > 0 && r.data_ranks > 0,
          "a step has no sequence",
          concat("batch size ", r.batch_size, ", gradient accumulation ", r.gradient_accumulation,
                 ", data ranks ", r.data_ranks),
          "Use 1 or more of each.");
  require(r.schedule.peak >= 0 && std::isfinite(r.schedule.peak),
          concat("the learning rate is ", r.schedule.peak), "it must be finite and not negative",
          "Use 1e-3 for a small model, 2e-5 to fine-tune a large one.");
  require(r.beta1 >= 0 && r.beta1 < 1 && r.beta2 >= 0 && r.beta2 < 1,
          concat("beta1 = ", r.beta1, " and beta2 = ", r.beta2), "both must lie in [0, 1)",
          "Use 0.9 and 0.95.");
  require(r.epsilon > 0, concat("epsilon is ", r.epsilon), "AdamW divides by it", "Use 1e-8.");
  require(r.clip_norm >= 0, concat("the clipping norm is ", r.clip_norm), "a norm is not negative",
          "Use 1, or 0 for no clipping.");
}

double clip_scale(double gradient_norm, double clip_norm) {
  return clip_norm > 0 && gradient_norm > clip_norm ? clip_norm / gradient_norm : 1.0;
}

TrainingStep::TrainingStep(Transformer& model, ParameterStore& parameters, Placement& placement,
                           const TrainingRecipe& recipe, TrainingData data, RotaryTables rotary,
                           SequencePositions positions, TrainedRotary* trained)
    : model_(model),
      parameters_(parameters),
      placement_(placement),
      recipe_(recipe),
      data_(std::move(data)),
      rotary_(std::move(rotary)),
      positions_(std::move(positions)),
      trained_(trained) {
  validate(recipe_);
  RINGBOLT_CHECK(recipe_.data_ranks == placement_.data_ranks());
  RINGBOLT_CHECK(recipe_.context_length == data_.context_length());
}

StepResult TrainingStep::run(int64_t step) {
  StepResult result{};
  parameters_.zero_gradients();
  result.loss = forward_backward(step);
  const GradientNorms norms = parameters_.gradient_norms();
  result.gradient_norm = norms.model;
  result.rotary_gradient_norm = norms.rotary;
  result.learning_rate = recipe_.schedule.at(step);
  require_finite(step, result);
  parameters_.update(
      {.learning_rate = static_cast<float>(result.learning_rate),
       .beta1 = static_cast<float>(recipe_.beta1),
       .beta2 = static_cast<float>(recipe_.beta2),
       .epsilon = static_cast<float>(recipe_.epsilon),
       .weight_decay = static_cast<float>(recipe_.weight_decay),
       .gradient_scale = static_cast<float>(clip_scale(norms.model, recipe_.clip_norm)),
       .step = step},
      static_cast<float>(clip_scale(norms.rotary, recipe_.clip_norm)));
  return result;
}

std::vector<int64_t> TrainingStep::positions_of(int64_t first_sequence,
                                                const PlacedTokens& mine) const {
  if (!positions_) return mine.positions;
  std::vector<int64_t> buffer;
  for (int64_t s = first_sequence; s < first_sequence + recipe_.batch_size; ++s) {
    const std::vector<int64_t> sequence = positions_(s);
    buffer.insert(buffer.end(), sequence.begin(), sequence.end());
  }
  std::vector<int64_t> positions;
  for (const int64_t token : mine.tokens)
    positions.push_back(token < 0 ? 0 : buffer[static_cast<size_t>(token)]);
  return positions;
}

const RotaryTable& TrainingStep::table_of(int64_t first_sequence, const PlacedTokens& mine) {
  if (trained_ == nullptr) return rotary_.at(positions_of(first_sequence, mine));
  const int64_t length = recipe_.context_length;
  std::vector<SequenceToken> tokens;
  for (const int64_t token : mine.tokens) {
    tokens.push_back(token < 0 ? SequenceToken{first_sequence, -1}
                               : SequenceToken{first_sequence + token / length, token % length});
  }
  return trained_->table(tokens);
}

LossSum TrainingStep::forward_backward(int64_t step) {
  const int64_t first = (step - 1) * recipe_.sequences_per_step();
  const int64_t counted = data_.counted_targets(first, recipe_.sequences_per_step());
  require(counted > 0, concat("step ", step, " has nothing to predict"),
          "all its documents are of one token", "Use --documents joined.");
  LossSum sum;
  for (int64_t micro = 0; micro < recipe_.gradient_accumulation; ++micro) {
    const int64_t slot = micro * placement_.data_ranks() + placement_.data_rank();
    const int64_t first_sequence = first + slot * recipe_.batch_size;
    const TrainingBatch batch = data_.batch(first_sequence, recipe_.batch_size);
    const PlacedTokens& mine = placement_.place(batch.offsets);
    const bool last = micro + 1 == recipe_.gradient_accumulation;
    sum += model_.train(mine.pick(batch.ids, 0), mine.pick(batch.targets, -1),
                        table_of(first_sequence, mine), *mine.attention, recipe_.recompute,
                        1.0F / static_cast<float>(counted),
                        last ? MicroBatch::last_of_step : MicroBatch::more_follow);
    if (trained_ != nullptr) trained_->angles_complete();
  }
  if (trained_ != nullptr) {
    const int64_t group = rotary_group(model_.config());
    trained_->backward(parameters_.gradients(group));
    parameters_.gradients_complete(group, MicroBatch::last_of_step);
  }
  placement_.sum({&sum, 1});
  return sum;
}

}  // namespace ringbolt
