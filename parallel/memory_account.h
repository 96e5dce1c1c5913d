// What a run needs, in bytes by kind, before it starts: for any model, length, mesh and recompute
// policy.
//
// The account follows the allocations of a training step (core/model, parallel/) in their order and
// takes the moment when most is live, so it is what Backend::memory() will say, and tests hold it
// to that. On a GPU it adds what the libraries take for themselves: cuBLASLt's workspace, and
// cuDNN's for attention as it was found for Hopper.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/model/block.h"
#include "core/model/config.h"
#include "parallel/distributed_attention.h"
#include "parallel/layout.h"
#include "parallel/mesh.h"
#include "parallel/sharded_parameters.h"

namespace ringbolt {

enum class MemoryKind {
  parameters,  ///< weights and f32 masters
  gradients,
  moments,
  activations,  ///< residual stream, what the policy keeps, the rotary table, a block's own
  attention,    ///< f32 sums, blocks and sums of the ring
  logits,       ///< of a chunk, with their gradient
  workspace,    ///< of libraries and kernels
  cache,        ///< of keys and values
};
inline constexpr size_t kMemoryKinds = 8;
std::string name_of(MemoryKind kind);

/// Bytes of one rank at the moment of its peak.
struct MemoryAccount {
  std::array<int64_t, kMemoryKinds> bytes{};
  std::string moment;  ///< "backward of layer 31"

  int64_t operator[](MemoryKind kind) const { return bytes[static_cast<size_t>(kind)]; }
  int64_t total() const;
  /// "parameters 12.6 GiB, gradients …": kinds that are not 0, largest first.
  std::string str() const;
};

struct TrainingShape {
  ModelConfig model;
  DType dtype = DType::bf16;
  int64_t context_length = 0;
  int64_t batch_size = 1;
  Recompute recompute = Recompute::none;
  MeshShape mesh = {};
  LayoutKind layout = LayoutKind::zigzag;
  AttentionChoice attention = {};
  std::optional<ShardState> sharding =
      {};  ///< over all ranks; none: every rank has the whole state
  bool gpu = false;
  bool recorded = false;  ///< micro-batches (Transformer::record_micro_batches)
};
MemoryAccount training_memory(const TrainingShape& c);
/// T of a rank, padding included.
int64_t tokens_of_rank(const TrainingShape& c);

struct GenerationShape {
  ModelConfig model;
  DType dtype = DType::bf16;
  int64_t capacity = 0;  ///< tokens of the cache, divided over `ranks`
  int64_t prompt = 0;    ///< tokens of one forward call, divided likewise
  int ranks = 1;
  bool gpu = false;
};
MemoryAccount generation_memory(const GenerationShape& c);

/// Forward over windows whose losses are wanted (Transformer::evaluate).
struct EvaluationShape {
  ModelConfig model;
  DType dtype = DType::bf16;
  int64_t context_length = 0;
  int64_t windows = 1;  ///< of one pass
  MeshShape mesh = {};
  LayoutKind layout = LayoutKind::zigzag;
  AttentionChoice attention = {};
  int64_t piece_tokens = kPieceTokens;
  bool gpu = false;
};
MemoryAccount evaluation_memory(const EvaluationShape& c);

/// Tokens of a piece: kPieceTokens, or as many fewer (halved, not below 64) as it takes to fit.
/// Throws: UsageError naming the need, what there is, and what to change, where no piece fits.
int64_t piece_tokens_that_fit(EvaluationShape c, int64_t available_bytes);

/// What to change so that a run fits, most promising first; each entry was tried and names its
/// total. Empty where nothing that is a choice (policy, sharding) helps: then more ranks or a
/// shorter context are named.
std::vector<std::string> ways_to_fit(const TrainingShape& c, int64_t available_bytes);

/// Throws: UsageError naming the need, what there is, and what to change, where the account exceeds
/// `available_bytes`.
void require_memory(const TrainingShape& c, int64_t available_bytes);

}  // namespace ringbolt
