#include "apps/trainer.h"

#include <algorithm>
#include <iostream>
#include <span>
#include <utility>

#include "apps/memory_check.h"
#include "apps/model_options.h"
#include "apps/rank_device.h"
#include "apps/results.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/bench/workloads.h"
#include "core/evaluate/context_loss.h"
#include "io/model_json.h"
#include "io/table.h"
#include "parallel/placement.h"
#include "parallel/sharded_parameters.h"
#include "rope/table.h"
#include "rope/two_part.h"

namespace ringbolt {
namespace {

TokenReader reader_of(const TokenDataset& data) {
  return [&data](int64_t begin, std::span<int32_t> out) { data.read(begin, out); };
}

TrainingData training_data(const TrainOptions& o, const TokenDataset& data,
                           const TrainingRecipe& recipe) {
  std::vector<int64_t> documents;
  if (o.documents == Documents::separate) documents = data.offsets();
  return {SequenceOrder(data.tokens(), recipe.context_length, recipe.seed), reader_of(data),
          std::move(documents)};
}

std::unique_ptr<ParameterStore> make_parameters(const TrainOptions& o, Backend& backend,
                                                Communicator& tensors, const ModelConfig& config) {
  if (tensors.size() == 1) {
    return std::make_unique<ResidentParameters>(backend, config, o.dtype, StorePurpose::training);
  }
  return std::make_unique<ShardedParameters>(backend, tensors, config, o.dtype, o.mesh.shard_state);
}

std::unique_ptr<Placement> placement_of(const TrainOptions& o, Backend& backend, Mesh& mesh,
                                        const AttentionChoice& choice, const RotaryMethod& method) {
  return place_for_method(backend, method, [&](DistanceRange distances) {
    return make_placement(backend, mesh, o.mesh.layout, choice, distances);
  });
}

std::unique_ptr<ClexTraining> make_clex(const TrainOptions& o, Backend& backend,
                                        ParameterStore& parameters, const TrainingRecipe& recipe,
                                        const TokenDataset& data) {
  const ModelConfig& config = parameters.config();
  if (config.rope_scaling.method != RopeMethod::clex) return nullptr;
  const SequencePositions mapped = o.positions.positions(recipe, data);
  return std::make_unique<ClexTraining>(
      backend, parameters,
      mapped ? clex_sequences(config, o.positions.length(recipe), mapped)
             : clex_sequences(config, recipe.context_length, recipe.seed));
}

/// Micro-batches are recorded where that is wanted and the ranks' exchanges can be part of it.
void record_where_wanted(const TrainOptions& o, Transformer& model, const Communicator& tensors) {
  if (!o.cuda_graph) return;
  if (tensors.size() > 1 && !tensors.can_be_recorded()) {
    throw UsageError(
        message(concat("--cuda-graph cannot be used on these ", tensors.size(), " ranks"),
                "they copy through the host, which takes no part in a replay",
                "Use --communicator nccl with a GPU for each rank, or leave "
                "--cuda-graph out."));
  }
  model.record_micro_batches();
}

ProgressOutput progress_of(const TrainOptions& o, bool is_first) {
  ProgressOutput output = o.out.progress_output();
  if (!is_first) output.mode = ProgressMode::none;
  return output;
}

}  // namespace

Trainer::Trainer(const TrainOptions& o, const OptionSet& options, const RunFolder& run,
                 Communicator& world, const StopSignal& stop, TrainingSetup setup)
    : o_(o),
      options_(options),
      run_(run),
      world_(world),
      stop_(stop),
      config_(setup.origin.config),
      pretraining_(setup.origin.pretraining),
      first_step_(setup.origin.step),
      recipe_(setup.recipe),
      data_(std::move(setup.data)),
      validation_(std::move(setup.validation)),
      backend_(o.device.make_backend(o.mesh.ranks.local_ranks)),
      tensors_(make_tensor_communicator("train", o.device, o.mesh.ranks, world, *backend_)),
      decision_(decide_attention(o.mesh, setup.mesh, *tensors_, *backend_, config_,
                                 {StorePurpose::training, o.dtype, recipe_.context_length})),
      mesh_(world, *tensors_, decision_.mesh),
      memory_(check_memory(o, config_, recipe_, decision_.mesh, decision_.choice,
                           available_bytes(o.device, o.mesh.ranks, world))),
      parameters_(make_parameters(o, *backend_, *tensors_, config_)),
      model_(*backend_, *parameters_),
      method_(config_),
      placement_(placement_of(o, *backend_, mesh_, decision_.choice, method_)),
      rotary_(rotary_tables(*backend_, method_, o.positions.length(recipe_))),
      clex_(make_clex(o, *backend_, *parameters_, recipe_, data_)),
      step_(model_, *parameters_, *placement_, recipe_, training_data(o, data_, recipe_), rotary_,
            o.positions.positions(recipe_, data_), clex_.get()),
      meter_(world),
      progress_("train", o.steps, "steps", progress_of(o, is_first()), first_step_),
      last_saved_(first_step_) {
  if (is_first()) {
    metrics_.emplace(run.metrics_file(), o.resume ? std::optional(first_step_) : std::nullopt);
  }
  record_where_wanted(o, model_, *tensors_);
  if (!decision_.reason.empty()) progress_.note(decision_.reason);
  progress_.note(memory_);
  load(setup.origin);
}

void Trainer::load(const Origin& origin) {
  if (origin.checkpoint) {
    load_training_state(*backend_, *parameters_, *origin.checkpoint);
  } else if (origin.weights) {
    load_weights_of(*origin.weights, *backend_, *parameters_, recipe_.seed);
  } else {
    initialise(*backend_, *parameters_, recipe_.seed);
  }
}

int64_t Trainer::run() {
  int64_t step = first_step_;
  std::string reason;
  while (step < o_.steps && reason.empty()) {
    take_step(++step);
    reason = reason_to_stop(step);
    if (is_due(o_.checkpoint_every, step) || !reason.empty()) save(step);
  }
  if (!reason.empty() && step < o_.steps) {
    progress_.note(concat("stopped after step ", step, " of ", o_.steps, " (", reason,
                          "). Go on with: ringbolt train --output ", run_.path(), " --resume"));
  }
  progress_.finish();
  return step;
}

std::string Trainer::reason_to_stop(int64_t step) const {
  if (pulse_.signal != 0) return signal_name(static_cast<int>(pulse_.signal));
  if (o_.stop_after && step >= *o_.stop_after) return "--stop-after";
  return "";
}

StepResult Trainer::compute(int64_t step) {
  try {
    return step_.run(step);
  } catch (const NumericError& error) {
    diverged(error);
  }
}

void Trainer::take_step(int64_t step) {
  const double before = seconds();
  meter_.begin(step);
  const StepResult result = compute(step);
  const double step_seconds = seconds() - before;
  pulse_ = meter_.end(stop_.received(), backend_->memory().peak_bytes);
  step_seconds_ += step_seconds;
  exposed_seconds_ += pulse_.exposed_seconds;
  received_bytes_ += pulse_.received_bytes;
  loss_ = result.loss.loss / static_cast<double>(result.loss.tokens);
  Json line = line_of(step, result);
  if (validation_ && is_due(o_.evaluate_every, step)) evaluate(line);
  // What a clock says stands apart: all else of a resumed run is equal to that of one without
  // interruption.
  line.set("wall", wall_of(result, step_seconds));
  if (metrics_) metrics_->write(line);
  Progress::Fields fields{
      {"loss", fixed(loss_, 4)},
      {"norm", fixed(result.gradient_norm, 3)},
      {"tokens/s", format_rate(static_cast<double>(result.loss.tokens) / step_seconds)}};
  if (world_.size() > 1 && knows_exposure())
    fields.emplace_back("exposed", fixed(100 * exposed_share(), 1) + "%");
  progress_.update(step, fields);
}

Json Trainer::line_of(int64_t step, const StepResult& result) const {
  const auto tokens = static_cast<double>(result.loss.tokens);
  Json line = Json::object();
  line.set("step", step)
      .set("loss", loss_)
      .set("accuracy", static_cast<double>(result.loss.hits) / tokens)
      .set("gradient_norm", result.gradient_norm);
  if (clex_ != nullptr) line.set("rotary_gradient_norm", result.rotary_gradient_norm);
  return line.set("learning_rate", result.learning_rate)
      .set("tokens", step * recipe_.tokens_per_step());
}

Json Trainer::wall_of(const StepResult& result, double step_seconds) const {
  Json wall = Json::object();
  wall.set("seconds", seconds())
      .set("step_seconds", step_seconds)
      .set("tokens_per_second", static_cast<double>(result.loss.tokens) / step_seconds);
  // Attention between separate documents is left out; how much that is differs from step to step.
  if (o_.documents == Documents::joined) {
    const TrainingFlops flops =
        training_flops(config_, recipe_.sequences_per_step(), recipe_.context_length);
    wall.set("causal_flops_per_second", flops.causal / step_seconds)
        .set("full_flops_per_second", flops.full / step_seconds);
  }
  if (knows_exposure()) wall.set("exposed_seconds", pulse_.exposed_seconds);
  return wall.set("received_bytes", pulse_.received_bytes).set("peak_bytes", pulse_.peak_bytes);
}

void Trainer::evaluate(Json& line) {
  if (clex_ != nullptr) method_.set_clex_weights(read_clex_weights(*backend_, *parameters_));
  const ContextLoss result =
      evaluate_context(model_, *placement_, validation_protocol(o_, recipe_), validation_->tokens(),
                       reader_of(*validation_), rotary_);
  validation_loss_ = result.mean();
  line.set("validation_loss", result.mean())
      .set("validation_accuracy", result.accuracy())
      .set("validation_tokens", result.total.tokens);
  progress_.note(concat("step ", line.at("step").as_integer(), ": validation loss ",
                        fixed(result.mean(), 4), ", accuracy ", fixed(100 * result.accuracy(), 2),
                        "%"));
}

void Trainer::save(int64_t step) {
  CheckpointInfo info;
  info.model = config_;
  info.step = step;
  info.training_json = Json::object()
                           .set("seed", o_.seed)
                           .set("sequences", step * recipe_.sequences_per_step())
                           .set("tokens", step * recipe_.tokens_per_step())
                           .set("data", Json::object()
                                            .set("path", data_.path())
                                            .set("tokens", data_.tokens())
                                            .set("tokenizer", data_.tokenizer_name())
                                            .set("tokenizer_hash", data_.tokenizer_hash()))
                           .set("pretraining", pretraining_)
                           .set("ranks", to_json(o_.mesh, decision_))
                           .set("options", Json::parse(options_.resolved_json(), "the options"))
                           .dump();
  run_.write_checkpoint(*backend_, *parameters_, world_, info, o_.keep_checkpoints);
  last_saved_ = step;
}

void Trainer::diverged(const NumericError& error) const {
  throw NumericError(concat(
      error.what(), last_saved_ > 0 ? concat(" The last good checkpoint is ",
                                             checkpoint_folder(run_.path(), last_saved_), ".")
                                    : std::string(" No checkpoint was written before.")));
}

void Trainer::report(int64_t step) const {
  if (!is_first()) return;
  const int64_t tokens = (step - first_step_) * recipe_.tokens_per_step();
  const double rate = static_cast<double>(tokens) / seconds();
  if (!json_is_output(o_.out.json)) {
    std::cout << run_.path() << ": step " << step << " of " << o_.steps << ", loss "
              << fixed(loss_, 4);
    if (!std::isnan(validation_loss_))
      std::cout << ", validation loss " << fixed(validation_loss_, 4);
    std::cout << ", " << format_rate(rate) << " tokens/s, peak memory of tensors "
              << format_bytes(pulse_.peak_bytes);
    if (world_.size() > 1) {
      std::cout << " a rank\n"
                << describe(o_.mesh, decision_) << ", exposed communication "
                << (knows_exposure() ? fixed(100 * exposed_share(), 1) + "% of the steps, "
                                     : std::string("not timed in CUDA graphs, "))
                << format_bytes(received_bytes_ / std::max<int64_t>(1, step - first_step_))
                << " a rank and step";
    }
    if (o_.cuda_graph) {
      std::cout << "\nCUDA graph: " << model_.replayed_micro_batches() << " of "
                << (step - first_step_) * recipe_.gradient_accumulation
                << " micro-batches were replayed";
    }
    std::cout << "\ncheckpoint " << checkpoint_folder(run_.path(), last_saved_) << '\n';
  }
  Json result = begin_result("train");
  result.set("output", run_.path())
      .set("device", backend_->description())
      .set("ranks", to_json(o_.mesh, decision_))
      .set("step", step)
      .set("steps", o_.steps)
      .set("loss", loss_)
      .set("validation_loss", validation_loss_)
      .set("tokens", tokens)
      .set("tokens_per_second", rate)
      .set("received_bytes", received_bytes_)
      .set("peak_bytes", pulse_.peak_bytes)
      .set("replayed_micro_batches", model_.replayed_micro_batches())
      .set("checkpoint", checkpoint_folder(run_.path(), last_saved_))
      .set("model", to_json(config_));
  if (knows_exposure()) result.set("exposed_share", exposed_share());
  write_result(o_.out.json, result);
}

}  // namespace ringbolt
