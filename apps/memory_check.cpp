#include "apps/memory_check.h"

#include <unistd.h>

#include <algorithm>
#include <optional>

#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/cuda/cuda_backend.h"
#include "parallel/launch.h"

namespace ringbolt {
namespace {

/// What one rank may use: the device's memory, or its share of the machine's.
int64_t available_bytes(const DeviceOptions& device, const RankOptions& ranks) {
  if (device.device == Device::cuda) return cuda_memory_bytes(static_cast<int>(device.gpu));
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  const std::optional<Launch>& launch = find_launch();
  const int64_t in_node = std::max<int64_t>(ranks.local_ranks, launch ? launch->local_size : 1);
  return pages * sysconf(_SC_PAGE_SIZE) / std::max<int64_t>(1, in_node);
}

}  // namespace

std::string check_memory(const TrainOptions& o, const ModelConfig& config,
                         const TrainingRecipe& recipe, const MeshShape& mesh,
                         const AttentionChoice& choice) {
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
  require_memory(shape, available_bytes(o.device, o.mesh.ranks));
  const MemoryAccount account = training_memory(shape);
  return concat("memory: ", format_bytes(account.total()), " a rank (", account.str(), ")");
}

EvaluationMemory check_evaluation_memory(const EvaluateOptions& o, EvaluationShape shape,
                                         const std::vector<EvaluationProtocol>& protocols,
                                         int64_t stream_tokens) {
  shape.gpu = o.device.device == Device::cuda;
  shape.piece_tokens = o.piece_tokens.value_or(kPieceTokens);
  const int64_t available = available_bytes(o.device, o.mesh.ranks);
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

}  // namespace ringbolt
