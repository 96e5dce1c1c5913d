// Attention over all ring positions, for the heads that this rank has: what is left once heads are
// divided.
//
// T rows here are those of the rank's ring position; sums leave in f32, for whoever trades heads to
// round or to add.
#pragma once

#include <memory>

#include "core/backend/backend.h"
#include "parallel/distributed_attention.h"
#include "parallel/layout.h"
#include "parallel/mesh.h"

namespace ringbolt {

class SequenceAttention {
 public:
  virtual ~SequenceAttention() = default;

  /// q (T, H, D), kv (T, 2K, D), A, contiguous; out (T, H, D) A and lse (T, H) f32 are overwritten.
  /// Collective.
  virtual void forward(ConstView q, ConstView kv, View out, View lse) = 0;
  /// dout (T, H, D) A; lse and delta (T, H) f32 of the merged output; dq (T, H, D) and dkv (T, 2K,
  /// D) f32, contiguous, are overwritten. Collective.
  virtual void backward(ConstView q, ConstView kv, ConstView dout, ConstView lse, ConstView delta,
                        View dq, View dkv) = 0;
};

/// k and v (in backward those, or the query side) travel around the ring. Running results are f32;
/// a step holds two blocks, in backward three sums besides, whatever the number of ranks.
std::unique_ptr<SequenceAttention> make_ring_attention(Backend& backend, Mesh& mesh,
                                                       const SequenceLayout& layout,
                                                       AttentionSlice::Mask mask,
                                                       const AttentionChoice& choice,
                                                       const Visibility& visibility = {});

/// One kernel call over the keys of all ranks: memory grows with their number, rounding does not.
/// They travel in the model's type.
std::unique_ptr<SequenceAttention> make_gathered_attention(Backend& backend, Mesh& mesh,
                                                           const SequenceLayout& layout,
                                                           AttentionSlice::Mask mask,
                                                           AttentionDType dtype,
                                                           const Visibility& visibility = {});

}  // namespace ringbolt
