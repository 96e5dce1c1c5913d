// A small model trained for some steps, alone and on the ranks of a mesh: what the two must have in
// common.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/evaluate/context_loss.h"
#include "core/train/training_step.h"
#include "parallel/distributed_attention.h"
#include "parallel/layout.h"
#include "parallel/mesh.h"
#include "parallel/sharded_parameters.h"
#include "tests/parallel/rank_device.h"

namespace ringbolt::testing_support {

struct TrainingCase {
  ModelConfig config;
  DType dtype = DType::f32;
  int64_t context_length = 67;  ///< prime: every rank count leaves padding
  int64_t batch_size = 1;
  int64_t micro_batches = 4;  ///< of a step, over all data ranks
  bool separate_documents = false;
  int64_t steps = 10;
  bool recorded = false;  ///< micro-batches are recorded and replayed
};

/// Grouped heads, an untied head.
ModelConfig untied_model();
/// As many key heads as heads, a tied head, biases.
ModelConfig tied_model();
/// The first, with CLEX to five times a length of 32: sequences of 67 have positions in halves.
ModelConfig clex_model();

struct RankedCase {
  MeshShape mesh;
  LayoutKind layout = LayoutKind::zigzag;
  AttentionChoice choice = {};
  ShardState state = ShardState::gradients;
};

struct Trained {
  std::vector<StepResult> steps;
  std::map<std::string, std::vector<float>> masters;  ///< whole
  int64_t elements = 0;                               ///< that some rank owns
  ContextLoss evaluated;                              ///< after the last step
  int64_t replayed = 0;                               ///< micro-batches of this rank
};

/// Resident parameters, everything on one device.
Trained train_alone(const TrainingCase& c, const RankDevice& device = {});
/// Collective over `world`, which must have as many ranks as the mesh. The same on all.
Trained train_on_ranks(Communicator& world, const TrainingCase& c, const RankedCase& ranked,
                       const RankDevice& device = {});

/// Expects loss, gradient norm of each step, and the evaluation within `bound` (relative), and each
/// tensor of weights within `weight_bound` of its norm. Returns a line with the largest seen.
std::string expect_same_training(const Trained& actual, const Trained& expected, double bound,
                                 double weight_bound);

}  // namespace ringbolt::testing_support
