// The account of memory before a run starts: a line to print, or a refusal that says what to
// change.
#pragma once

#include <string>

#include "apps/train_options.h"
#include "core/train/training_step.h"
#include "parallel/distributed_attention.h"
#include "parallel/mesh.h"

namespace ringbolt {

/// "memory: 27.4 GiB a rank (parameters 15.7 GiB, …)". Throws: UsageError where that is more than
/// the device, or this rank's share of the machine, has.
std::string check_memory(const TrainOptions& o, const ModelConfig& config,
                         const TrainingRecipe& recipe, const MeshShape& mesh,
                         const AttentionChoice& choice);

}  // namespace ringbolt
