// What a training run begins with: model, recipe and data, checked before anything is written.
#pragma once

#include <memory>
#include <optional>

#include "apps/run_folder.h"
#include "apps/train_options.h"
#include "core/evaluate/context_loss.h"
#include "core/train/training_step.h"
#include "io/json.h"
#include "io/tokens.h"
#include "io/weights.h"

namespace ringbolt {

/// Where the model comes from: new weights, a trained model, or the newest checkpoint of this run.
struct Origin {
  ModelConfig config;                          ///< with the run's context length and rotary options
  std::unique_ptr<WeightSource> weights;       ///< fine-tuning
  std::optional<CheckpointReader> checkpoint;  ///< resuming
  int64_t step = 0;                            ///< done before
  int64_t sequences = 0;                       ///< that those steps took
  Json pretraining;  ///< {rope_base, context_length} of before any fine-tuning
};

struct TrainingSetup {
  Origin origin;
  MeshShape mesh;  ///< as the options say; --attention auto decides about head ranks later
  TrainingRecipe recipe;
  TokenDataset data;
  std::optional<TokenDataset> validation;
};

/// `world` ranks. Throws: UsageError or IoError for the first thing wrong with checkpoint, model,
/// ranks, recipe or data.
TrainingSetup set_up_training(const TrainOptions& options, const RunFolder& run, int world);

/// Windows of the validation data that an evaluation during training takes.
EvaluationProtocol validation_protocol(const TrainOptions& options, const TrainingRecipe& recipe);

/// {rope_base, context_length} that the model of a checkpoint was trained with before any
/// fine-tuning; what `config` says where the file does not tell.
Json pretraining_of(const std::string& checkpoint, const ModelConfig& config);

}  // namespace ringbolt
