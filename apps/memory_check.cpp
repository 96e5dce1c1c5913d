#include "apps/memory_check.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/quantity.h"

namespace ringbolt {
std::string check_memory(const TrainOptions& o, const ModelConfig& config,
                         const TrainingRecipe& recipe, const MeshShape& mesh,
                         const AttentionChoice& choice, int64_t available_bytes) {
  TrainingShape shape;
  shape.model = config;
  shape.dtype = o.dtype;
  shape.context_length = recipe.context_length;
  shape.batch_size = recipe.batch_size;
  shape.recompute = recipe.recompute;
  shape.mesh = mesh;
  shape.layout = o.mesh.layout;
  shape.attention = choice;
  if (mesh.world() > 1) shape.sharding = o.mesh.shard_state;
  shape.gpu = o.device.device == Device::cuda;
  shape.recorded = o.cuda_graph;
  require_memory(shape, available_bytes);
  const MemoryAccount account = training_memory(shape);
  return concat("memory: ", format_bytes(account.total()), " a rank (", account.str(), ")");
}

EvaluationShape evaluation_shape(const ModelConfig& model, DType dtype, const MeshOptions& mesh,
                                 const AttentionDecision& decision, const DeviceOptions& device) {
  EvaluationShape shape;
  shape.model = model;
  shape.dtype = dtype;
  shape.mesh = decision.mesh;
  shape.layout = mesh.layout;
  shape.attention = decision.choice;
  shape.gpu = device.device == Device::cuda;
  return shape;
}

EvaluationMemory check_evaluation_memory(const EvaluateOptions& o, EvaluationShape shape,
                                         const std::vector<EvaluationProtocol>& protocols,
                                         int64_t stream_tokens, int64_t available) {
  shape.piece_tokens = o.piece_tokens.value_or(kPieceTokens);
  EvaluationMemory result{shape.piece_tokens, {}, available};
  const auto pass_of = [&](const EvaluationProtocol& p) {
    EvaluationShape pass = shape;
    pass.context_length = p.context_length;
    pass.windows = windows_per_pass(p, window_count(p, stream_tokens), shape.mesh.data);
    return pass;
  };
  for (const EvaluationProtocol& p : protocols) {
    const EvaluationShape pass = pass_of(p);
    const int64_t piece = piece_tokens_that_fit(pass, available);
    if (o.piece_tokens && piece < *o.piece_tokens) {
      throw UsageError(message(concat("--piece-tokens ", *o.piece_tokens, " does not fit"),
                               concat("it takes ", format_bytes(evaluation_memory(pass).total()),
                                      " a rank of ", format_bytes(available)),
                               concat("Try --piece-tokens ", piece, ", or leave it out.")));
    }
    result.piece_tokens = std::min(result.piece_tokens, piece);
  }
  shape.piece_tokens = result.piece_tokens;
  for (const EvaluationProtocol& p : protocols) {
    const MemoryAccount account = evaluation_memory(pass_of(p));
    if (account.total() > result.account.total()) result.account = account;
  }
  return result;
}

std::string memory_line(const MemoryAccount& foreseen, int64_t peak_bytes) {
  return concat("memory of a rank's tensors: ", format_bytes(peak_bytes), ", foreseen ",
                format_bytes(foreseen.total()), " (", foreseen.str(), ")");
}

Json memory_json(const MemoryAccount& foreseen, int64_t peak_bytes) {
  Json bytes = Json::object();
  for (size_t kind = 0; kind < kMemoryKinds; ++kind) {
    const int64_t of_kind = foreseen.bytes[kind];
    if (of_kind > 0) bytes.set(name_of(static_cast<MemoryKind>(kind)), of_kind);
  }
  return Json::object()
      .set("account_bytes", foreseen.total())
      .set("peak_bytes", peak_bytes)
      .set("bytes", bytes);
}

}  // namespace ringbolt
