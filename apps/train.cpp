// ringbolt train: trains a model from scratch, or fine-tunes one.
#include <filesystem>
#include <iostream>
#include <optional>
#include <utility>

#include "apps/commands.h"
#include "apps/ranks.h"
#include "apps/run_folder.h"
#include "apps/stop_signal.h"
#include "apps/train_options.h"
#include "apps/train_setup.h"
#include "apps/trainer.h"
#include "core/base/error.h"
#include "io/atomic_file.h"
#include "parallel/launch.h"

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

/// A resumed run goes on only as it began: these would change what it has computed so far.
void require_same_run(const OptionSet& options, const RunFolder& run) {
  std::vector<std::string> fixed_options = rope_option_names();
  for (const char* name : {"checkpoint", "model", "documents", "context-length", "position-map",
                           "position-reach", "rotary-pairing", "beta1", "beta2", "epsilon",
                           "clip-norm", "weight-decay", "seed", "dtype"})
    fixed_options.emplace_back(name);
  const std::vector<std::string> changed = options.changed_since(run.options_file(), fixed_options);
  if (changed.empty()) return;
  throw UsageError(message(concat("--", changed.front(), " differs from the run in ", run.path()),
                           "a resumed run goes on as it began",
                           "Leave it out, or begin a new run with another --output."));
}

/// One rank of a run.
void train(const TrainOptions& o, const OptionSet& options, const StopSignal& stop,
           Communicator& world) {
  const RunFolder run(o.output);
  if (o.resume) require_same_run(options, run);
  if (!o.resume) run.require_unused();
  TrainingSetup setup = set_up_training(o, run, world.size());
  if (setup.origin.step >= o.steps) {
    // A batch job that is started again after its end has not failed.
    if (world.rank() == 0) {
      std::cout << run.path() << ": step " << setup.origin.step << " of " << o.steps
                << ", nothing is left to do (give more --steps to train longer)\n";
    }
    return;
  }
  world.barrier();  // until all have looked at the folder as it was
  if (world.rank() == 0) run.make();
  Trainer trainer(o, options, run, world, stop, std::move(setup));
  if (world.rank() == 0) {
    const Json resolved =
        Json::parse(options.resolved_json({"resume", "stop-after", "json", "progress"}), "options");
    write_file_atomically(run.options_file(),
                          with_decision(resolved, trainer.decision()).dump(2) + "\n");
  }
  trainer.report(trainer.run());
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

  o.tokens = fs::absolute(o.tokens).string();
  if (o.validation_tokens) o.validation_tokens = fs::absolute(*o.validation_tokens).string();
  const std::optional<Launch>& launch = find_launch();
  if (options.is_stored("local-ranks") && launch) o.mesh.ranks.local_ranks = 1;
  o.mesh.fit(options, launch ? launch->size : o.mesh.ranks.local_ranks);
  const StopSignal stop;
  run_on_ranks("train", o.mesh.ranks, [&](Communicator& world) { train(o, options, stop, world); });
  return 0;
}

}  // namespace ringbolt
