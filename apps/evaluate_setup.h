// What an evaluation begins with: text, protocols, and one rank's model among the others, with its
// memory checked before a weight is loaded.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/attention_choice.h"
#include "apps/evaluate_options.h"
#include "apps/memory_check.h"
#include "io/tokens.h"
#include "parallel/mesh.h"

namespace ringbolt {

/// What is evaluated, and the token that begins each window.
struct EvaluationData {
  TokenDataset tokens;
  int32_t bos_id;
  std::string description;
};

/// Throws: UsageError or IoError for the first thing wrong with text and tokenizer.
EvaluationData open_data(const EvaluateOptions& o);

/// One rank's model and its place among the others. Collective to make; throws UsageError for what
/// does not fit the model, the text or the memory.
struct RankedModel {
  RankedModel(const EvaluateOptions& o, Communicator& world, const EvaluationData& data);

  /// For a protocol whose tokens see parallel windows, or what the rotary method says.
  std::unique_ptr<Placement> place(const EvaluateOptions& o,
                                   const std::optional<ParallelWindows>& windows);

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Communicator> tensors;  ///< the ranks, for the backend's memory
  ModelConfig config;
  std::vector<EvaluationProtocol> protocols;  ///< one a length
  AttentionDecision decision;
  EvaluationMemory memory;
  LoadedModel loaded;
  Mesh mesh;
};

}  // namespace ringbolt
