// Attention over the ranks of a mesh: which strategy, and the Attention that runs it.
//
//   ring         k and v travel around the ring positions (arXiv 2310.01889)
//   double_ring  the same in two levels: outer transfers hide behind a whole inner ring
//   (LoongTrain, arXiv 2406.18485) all_gather   every ring position gathers all k and v, then one
//   kernel runs (Llama 3, arXiv 2407.21783)
//
// With more than one rank on the mesh's head axis an all-to-all first trades tokens for heads
// (DeepSpeed-Ulysses, arXiv 2309.14509); what runs inside is one of the above over the ring
// positions, or nothing but the kernel where there is one ring position.
#pragma once

#include <memory>
#include <string>

#include "core/model/attention.h"
#include "parallel/layout.h"
#include "parallel/mesh.h"

namespace ringbolt {

enum class AttentionStrategy { ring, double_ring, all_gather };

/// What travels around the ring in backward.
enum class RingBackward {
  keys,     ///< k and v, followed by the sum of their gradients
  queries,  ///< q, dout, lse and delta, followed by the sum of dq (BurstAttention, arXiv
            ///< 2403.09347): fewer bytes where K = H
};

struct AttentionChoice {
  AttentionStrategy strategy = AttentionStrategy::ring;
  RingBackward backward = RingBackward::keys;
  /// Forward only, unless it is the model's. What travels around the ring has this type.
  AttentionDType dtype = AttentionDType::model;
};

/// Attention of this rank's tokens: those of `layout` for mesh.ring_rank(), of which head rank u
/// holds the u-th part of T / head rows. `layout` must have mesh.shape().ring() ranks and T a
/// multiple of mesh.shape().head. Backend and mesh must outlive it. Every call of forward and
/// backward is collective over the mesh's sequence ranks. Throws: UsageError where the heads cannot
/// be divided by the head ranks.
std::unique_ptr<Attention> make_distributed_attention(Backend& backend, Mesh& mesh,
                                                      const SequenceLayout& layout,
                                                      AttentionSlice::Mask mask,
                                                      const AttentionChoice& choice,
                                                      const Visibility& visibility = {});

/// Bytes that one rank receives in a layer's forward and backward, by the formulas of each
/// strategy; what the communicator counts is equal. (T is that of a rank, padding included.)
struct AttentionBytes {
  int64_t forward;
  int64_t backward;
};
struct AttentionProblem {
  int64_t tokens_per_rank;  ///< T of a rank, before the head axis gathers
  int64_t heads;            ///< H
  int64_t kv_heads;         ///< K
  int64_t head_dim;         ///< D
  DType dtype;              ///< A
};
AttentionBytes attention_bytes(const MeshShape& mesh, const AttentionProblem& problem,
                               const AttentionChoice& choice);

}  // namespace ringbolt
