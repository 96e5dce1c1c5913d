// The account of memory before a run starts: a line to print, or a refusal that says what to
// change.
#pragma once

#include <string>
#include <vector>

#include "apps/attention_choice.h"
#include "apps/evaluate_options.h"
#include "apps/train_options.h"
#include "core/evaluate/context_loss.h"
#include "core/train/training_step.h"
#include "io/json.h"
#include "parallel/distributed_attention.h"
#include "parallel/memory_account.h"
#include "parallel/mesh.h"

namespace ringbolt {

/// "memory: 27.4 GiB a rank (parameters 15.7 GiB, …)". Throws: UsageError where that is more than
/// `available_bytes` (apps/rank_device.h).
std::string check_memory(const TrainOptions& o, const ModelConfig& config,
                         const TrainingRecipe& recipe, const MeshShape& mesh,
                         const AttentionChoice& choice, int64_t available_bytes);

/// One window of a pass, without its length.
EvaluationShape evaluation_shape(const ModelConfig& model, DType dtype, const MeshOptions& mesh,
                                 const AttentionDecision& decision, const DeviceOptions& device);

struct EvaluationMemory {
  int64_t piece_tokens;   ///< --piece-tokens, or as many as fit
  MemoryAccount account;  ///< of the length that takes most
  int64_t available_bytes;
};
/// `shape` without lengths; of `stream_tokens` tokens of text. Throws: UsageError where a length
/// takes more than a rank has.
EvaluationMemory check_evaluation_memory(const EvaluateOptions& o, EvaluationShape shape,
                                         const std::vector<EvaluationProtocol>& protocols,
                                         int64_t stream_tokens, int64_t available_bytes);

/// What a forward took of a rank beside what was foreseen, for people and for --json.
std::string memory_line(const MemoryAccount& foreseen, int64_t peak_bytes);
Json memory_json(const MemoryAccount& foreseen, int64_t peak_bytes);

}  // namespace ringbolt
