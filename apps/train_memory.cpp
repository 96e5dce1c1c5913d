#include "apps/train_memory.h"

#include <unistd.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/cuda/cuda_backend.h"
#include "parallel/memory_account.h"

namespace ringbolt {
namespace {

/// What one rank may use. Ranks of other processes on this machine are not known here.
int64_t available_bytes(const TrainOptions& o) {
  if (o.device.device == Device::cuda) return cuda_memory_bytes(static_cast<int>(o.device.gpu));
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  return pages * sysconf(_SC_PAGE_SIZE) / std::max<int64_t>(1, o.mesh.ranks.local_ranks);
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
  require_memory(shape, available_bytes(o));
  const MemoryAccount account = training_memory(shape);
  return concat("memory: ", format_bytes(account.total()), " a rank (", account.str(), ")");
}

}  // namespace ringbolt
