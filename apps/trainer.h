// One rank's part of a training run: steps, evaluations, checkpoints. Rank 0 alone writes and
// shows.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/attention_choice.h"
#include "apps/progress.h"
#include "apps/run_folder.h"
#include "apps/step_pulse.h"
#include "apps/stop_signal.h"
#include "apps/train_options.h"
#include "apps/train_setup.h"
#include "core/base/error.h"
#include "core/train/training_step.h"
#include "io/metrics.h"
#include "parallel/mesh.h"
#include "rope/clex_training.h"
#include "rope/method.h"

namespace ringbolt {

/// Collective, as all its calls. Members refer to those above them.
class Trainer {
 public:
  Trainer(const TrainOptions& o, const OptionSet& options, const RunFolder& run,
          Communicator& world, const StopSignal& stop, TrainingSetup setup);

  /// Steps until the last one, a signal to any rank or --stop-after. Returns the step it came to.
  int64_t run();
  /// How the ranks work, which --attention auto found out.
  const AttentionDecision& decision() const { return decision_; }
  /// What became of it, on rank 0.
  void report(int64_t step) const;

 private:
  void load(const Origin& origin);
  StepResult compute(int64_t step);
  void take_step(int64_t step);
  Json line_of(int64_t step, const StepResult& result) const;
  Json wall_of(const StepResult& result, double step_seconds) const;
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
  bool is_first() const { return world_.rank() == 0; }
  /// What replays wait for is not timed: no event may be asked after in a CUDA graph.
  bool knows_exposure() const { return world_.size() == 1 || !o_.cuda_graph; }
  double exposed_share() const { return step_seconds_ > 0 ? exposed_seconds_ / step_seconds_ : 0; }

  const TrainOptions& o_;
  const OptionSet& options_;
  const RunFolder& run_;
  Communicator& world_;
  const StopSignal& stop_;
  ModelConfig config_;
  Json pretraining_;
  int64_t first_step_;
  TrainingRecipe recipe_;
  TokenDataset data_;
  std::optional<TokenDataset> validation_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Communicator> tensors_;  ///< the ranks of world_, for the backend's memory
  AttentionDecision decision_;
  Mesh mesh_;
  std::string memory_;  ///< the account, in a line: before anything large is allocated
  std::unique_ptr<ParameterStore> parameters_;
  Transformer model_;
  RotaryMethod method_;
  std::unique_ptr<Placement> placement_;
  RotaryTables rotary_;
  std::unique_ptr<ClexTraining> clex_;  ///< where that is the method
  TrainingStep step_;
  StepMeter meter_;
  std::optional<MetricsLog> metrics_;
  Progress progress_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  int64_t last_saved_;
  StepPulse pulse_;             ///< of the last step
  double step_seconds_ = 0;     ///< of all steps together
  double exposed_seconds_ = 0;  ///< of them
  int64_t received_bytes_ = 0;
  double loss_ = std::nan("");
  double validation_loss_ = std::nan("");
};

}  // namespace ringbolt
