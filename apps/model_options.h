// Options that say which model runs and how its positions turn into angles; and the model itself,
// loaded.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/options.h"
#include "apps/rope_options.h"
#include "core/backend/backend.h"
#include "core/evaluate/context_loss.h"
#include "core/generate/generator.h"
#include "core/model/parameters.h"
#include "core/model/transformer.h"
#include "io/tokenizer.h"
#include "io/weights.h"
#include "rope/method.h"

namespace ringbolt {

/// --checkpoint, --dtype and the rotary options: a trained model that computes, but does not learn.
struct ModelOptions {
  std::string checkpoint;
  DType dtype = DType::f32;
  RopeOptions rope;

  void declare(OptionSet& options);
  /// The checkpoint's with the rotary options, without loading it. Throws: IoError, UsageError.
  ModelConfig config() const;
};

/// A model for inference with everything that it refers to.
class LoadedModel {
 public:
  /// `piece_tokens`: core/model/pieces.h. Throws: IoError where the checkpoint cannot be read.
  LoadedModel(Backend& backend, const ModelOptions& options, int64_t piece_tokens = kPieceTokens);
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  Transformer& model() { return model_; }
  const ModelConfig& config() const { return parameters_.config(); }
  /// As the checkpoint has it, before the rotary options.
  const ModelConfig& stored_config() const { return source_->config(); }
  DType dtype() const { return parameters_.dtype(); }
  const RotaryMethod& rotary_method() const { return method_; }
  /// Tables for sequences of `length` tokens; 0 takes the largest position of each table.
  RotaryTables rotary(int64_t length = 0) const;
  /// For a text that grows, whose length is that of each table.
  GrowingRotation growing_rotation() const;
  std::string description() const { return source_->description(); }

 private:
  Backend& backend_;
  std::unique_ptr<WeightSource> source_;
  ResidentParameters parameters_;
  RotaryMethod method_;
  Transformer model_;
};

/// Sets a store's weights to those of a file; what a rotary method adds to the model (CLEX) begins
/// anew where the file has none. Throws: IoError; UsageError where the file's weights of that
/// method have another shape.
void load_weights_of(const WeightSource& source, Backend& backend, ParameterStore& parameters,
                     uint64_t seed);

/// Throws: UsageError where `vocab_size` ids do not fit the model. `what` has them: "the tokenizer
/// bytes".
void require_vocabulary(const std::string& what, int64_t vocab_size, const ModelConfig& model);

}  // namespace ringbolt
