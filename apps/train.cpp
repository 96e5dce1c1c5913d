// ringbolt train: trains a model from scratch, or fine-tunes one.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>

#include "apps/commands.h"
#include "apps/results.h"
#include "apps/run_folder.h"
#include "apps/stop_signal.h"
#include "apps/train_options.h"
#include "apps/train_setup.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/bench/workloads.h"
#include "core/evaluate/context_loss.h"
#include "core/train/training_step.h"
#include "io/atomic_file.h"
#include "io/metrics.h"
#include "io/model_json.h"
#include "io/table.h"
#include "io/tokens.h"
#include "rope/method.h"
#include "rope/table.h"

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

TokenReader reader_of(const TokenDataset& data) {
  return [&data](int64_t begin, std::span<int32_t> out) { data.read(begin, out); };
}

/// What steps, evaluations and checkpoints of one run share. Members refer to those above them.
class Trainer {
 public:
  Trainer(const TrainOptions& o, const OptionSet& options, const RunFolder& run,
          TrainingSetup setup);

  /// Steps until the last one, a signal or --stop-after. Returns the step it came to.
  int64_t run();
  void report(int64_t step) const;

 private:
  void load(const Origin& origin);
  void take_step(int64_t step);
  void evaluate(Json& line);
  void save(int64_t step);
  [[noreturn]] void diverged(const NumericError& error) const;
  std::string reason_to_stop(int64_t step) const;
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
  }
  bool is_due(int64_t every, int64_t step) const {
    return step == o_.steps || (every > 0 && step % every == 0);
  }

  const TrainOptions& o_;
  const OptionSet& options_;
  const RunFolder& run_;
  ModelConfig config_;
  Json pretraining_;
  int64_t first_step_;
  TrainingRecipe recipe_;
  TokenDataset data_;
  std::optional<TokenDataset> validation_;
  std::unique_ptr<Backend> backend_;
  ResidentParameters parameters_;
  Transformer model_;
  RotaryMethod method_;
  RotaryTables rotary_;
  WholePlacement placement_;
  TrainingStep step_;
  MetricsLog metrics_;
  Progress progress_;
  StopSignal stop_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  int64_t last_saved_;
  double loss_ = std::nan("");
  double validation_loss_ = std::nan("");
};

Trainer::Trainer(const TrainOptions& o, const OptionSet& options, const RunFolder& run,
                 TrainingSetup setup)
    : o_(o),
      options_(options),
      run_(run),
      config_(setup.origin.config),
      pretraining_(setup.origin.pretraining),
      first_step_(setup.origin.step),
      recipe_(setup.recipe),
      data_(std::move(setup.data)),
      validation_(std::move(setup.validation)),
      backend_(o.device.make_backend()),
      parameters_(*backend_, config_, o.dtype, StorePurpose::training),
      model_(*backend_, parameters_),
      method_(config_),
      rotary_([this](std::span<const int64_t> positions) {
        return make_rotary_table(*backend_, method_, positions, recipe_.context_length);
      }),
      placement_(*backend_),
      step_(model_, parameters_, placement_, recipe_,
            TrainingData(SequenceOrder(data_.tokens(), recipe_.context_length, recipe_.seed),
                         reader_of(data_)),
            rotary_),
      metrics_(run.metrics_file(), o.resume ? std::optional(first_step_) : std::nullopt),
      progress_("train", o.steps, "steps", o.out.progress_output(), first_step_),
      last_saved_(first_step_) {
  load(setup.origin);
}

void Trainer::load(const Origin& origin) {
  if (origin.checkpoint) {
    load_training_state(*backend_, parameters_, *origin.checkpoint);
  } else if (origin.weights) {
    load_weights(*backend_, parameters_,
                 [&](const std::string& name, int64_t first, std::span<float> values) {
                   origin.weights->read(name, first, values);
                 });
  } else {
    initialise(*backend_, parameters_, recipe_.seed);
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
  if (stop_.received() != 0) return stop_.name();
  if (o_.stop_after && step >= *o_.stop_after) return "--stop-after";
  return "";
}

void Trainer::take_step(int64_t step) {
  const double before = seconds();
  StepResult result{};
  try {
    result = step_.run(step);
  } catch (const NumericError& error) {
    diverged(error);
  }
  const double step_seconds = seconds() - before;
  const auto tokens = static_cast<double>(result.loss.tokens);
  loss_ = result.loss.loss / tokens;
  const TrainingFlops flops =
      training_flops(config_, recipe_.sequences_per_step(), recipe_.context_length);
  Json line = Json::object();
  line.set("step", step)
      .set("loss", loss_)
      .set("accuracy", static_cast<double>(result.loss.hits) / tokens)
      .set("gradient_norm", result.gradient_norm)
      .set("learning_rate", result.learning_rate)
      .set("tokens", step * recipe_.tokens_per_step());
  if (validation_ && is_due(o_.evaluate_every, step)) evaluate(line);
  // What a clock says stands apart: all else of a resumed run is equal to that of one without
  // interruption.
  line.set("wall", Json::object()
                       .set("seconds", seconds())
                       .set("step_seconds", step_seconds)
                       .set("tokens_per_second", tokens / step_seconds)
                       .set("causal_flops_per_second", flops.causal / step_seconds)
                       .set("full_flops_per_second", flops.full / step_seconds)
                       .set("peak_bytes", backend_->memory().peak_bytes));
  metrics_.write(line);
  progress_.update(step, {{"loss", fixed(loss_, 4)},
                          {"norm", fixed(result.gradient_norm, 3)},
                          {"tokens/s", format_rate(tokens / step_seconds)}});
}

void Trainer::evaluate(Json& line) {
  const ContextLoss result =
      evaluate_context(model_, placement_, validation_protocol(o_, recipe_), validation_->tokens(),
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
                           .set("options", Json::parse(options_.resolved_json(), "the options"))
                           .dump();
  run_.write_checkpoint(*backend_, parameters_, info, o_.keep_checkpoints);
  last_saved_ = step;
}

void Trainer::diverged(const NumericError& error) const {
  throw NumericError(concat(
      error.what(), last_saved_ > 0 ? concat(" The last good checkpoint is ",
                                             checkpoint_folder(run_.path(), last_saved_), ".")
                                    : std::string(" No checkpoint was written before.")));
}

void Trainer::report(int64_t step) const {
  const int64_t tokens = (step - first_step_) * recipe_.tokens_per_step();
  const double rate = static_cast<double>(tokens) / seconds();
  const MemoryUse memory = backend_->memory();
  if (!json_is_output(o_.out.json)) {
    std::cout << run_.path() << ": step " << step << " of " << o_.steps << ", loss "
              << fixed(loss_, 4);
    if (!std::isnan(validation_loss_))
      std::cout << ", validation loss " << fixed(validation_loss_, 4);
    std::cout << ", " << format_rate(rate) << " tokens/s, peak memory of tensors "
              << format_bytes(memory.peak_bytes) << "\ncheckpoint "
              << checkpoint_folder(run_.path(), last_saved_) << '\n';
  }
  Json result = begin_result("train");
  result.set("output", run_.path())
      .set("device", backend_->description())
      .set("step", step)
      .set("steps", o_.steps)
      .set("loss", loss_)
      .set("validation_loss", validation_loss_)
      .set("tokens", tokens)
      .set("tokens_per_second", rate)
      .set("peak_bytes", memory.peak_bytes)
      .set("checkpoint", checkpoint_folder(run_.path(), last_saved_))
      .set("model", to_json(config_));
  write_result(o_.out.json, result);
}

/// A resumed run goes on only as it began: these would change what it has computed so far.
void require_same_run(const OptionSet& options, const RunFolder& run) {
  std::vector<std::string> fixed_options = rope_option_names();
  for (const char* name : {"checkpoint", "model", "context-length", "rotary-pairing", "batch-size",
                           "gradient-accumulation", "beta1", "beta2", "epsilon", "clip-norm",
                           "weight-decay", "seed", "dtype"})
    fixed_options.emplace_back(name);
  const std::vector<std::string> changed = options.changed_since(run.options_file(), fixed_options);
  if (changed.empty()) return;
  throw UsageError(message(concat("--", changed.front(), " differs from the run in ", run.path()),
                           "a resumed run goes on as it began",
                           "Leave it out, or begin a new run with another --output."));
}

}  // namespace

int run_train(const Arguments& arguments) {
  TrainOptions o;
  OptionSet options("train",
                    "Trains a model from new weights (--model), or fine-tunes one (--checkpoint), "
                    "on a token file.");
  o.declare(options);
  options.fall_back_on([&]() -> std::optional<std::string> {
    const RunFolder run(o.output);
    if (!o.resume || o.output.empty()) return std::nullopt;
    if (run.holds_run()) return run.options_file();
    throw UsageError(message(concat("there is no run in ", o.output),
                             "--resume goes on with one, and options.json is not there",
                             "Check --output, or leave --resume out."));
  });
  if (!options.parse(arguments, std::cout)) return 0;

  const RunFolder run(o.output);
  o.tokens = fs::absolute(o.tokens).string();
  if (o.validation_tokens) o.validation_tokens = fs::absolute(*o.validation_tokens).string();
  if (o.resume) require_same_run(options, run);
  if (!o.resume) run.require_unused();
  TrainingSetup setup = set_up_training(o, run);
  if (setup.origin.step >= o.steps) {
    // A batch job that is started again after its end has not failed.
    std::cout << run.path() << ": step " << setup.origin.step << " of " << o.steps
              << ", nothing is left to do (give more --steps to train longer)\n";
    return 0;
  }
  run.make();
  Trainer trainer(o, options, run, std::move(setup));
  write_file_atomically(run.options_file(),
                        options.resolved_json({"resume", "stop-after", "json", "progress"}));
  const int64_t step = trainer.run();
  trainer.report(step);
  return 0;
}

}  // namespace ringbolt
