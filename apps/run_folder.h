// The folder of a training run: options.json, metrics.jsonl, checkpoint-<step>/.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/backend/backend.h"
#include "core/model/parameters.h"
#include "io/checkpoint.h"
#include "io/json.h"
#include "parallel/communicator.h"

namespace ringbolt {

class RunFolder {
 public:
  explicit RunFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string options_file() const { return path_ + "/options.json"; }
  std::string metrics_file() const { return path_ + "/metrics.jsonl"; }
  /// Whether a run was begun here.
  bool holds_run() const;
  std::optional<FoundCheckpoint> newest_checkpoint() const;

  /// Throws: UsageError where it holds a run.
  void require_unused() const;
  /// Makes the folder where it is not there. Throws: IoError.
  void make() const;
  /// Writes the checkpoint of info.step, each rank its pieces; then rank 0 removes all but the
  /// newest `keep` (0 keeps all) and what a killed run left unfinished.
  /// Returns its folder. Throws: IoError, on all ranks; earlier checkpoints then stay. Collective.
  std::string write_checkpoint(Backend& backend, ParameterStore& parameters, Communicator& ranks,
                               const CheckpointInfo& info, int64_t keep) const;

 private:
  std::string path_;
};

/// Weights, masters and both moments, each rank its pieces: the checkpoint may be of any number of
/// ranks. Throws: IoError where the checkpoint lacks one. Collective.
void load_training_state(Backend& backend, ParameterStore& parameters,
                         const CheckpointReader& checkpoint);

/// The checkpoint that a path means: its folder, its index.h5, or the newest of a run's folder.
/// Nothing for other files.
std::optional<CheckpointReader> open_checkpoint(const std::string& path);

}  // namespace ringbolt
