// The trade of tokens for heads between the ranks of the head axis (DeepSpeed-Ulysses, arXiv
// 2309.14509, section 3.1).
//
// U head ranks share a ring position's T rows. Before attention each has T/U rows of all heads,
// afterwards all T rows of its part of the heads: H/U query heads and the key/value heads that
// those read. Where there are fewer key/value heads than ranks, U/K neighbouring ranks have the
// same one, and what they compute for it is added.
#pragma once

#include <cstdint>

#include "core/backend/backend.h"
#include "parallel/communicator.h"

namespace ringbolt {

/// Throws: UsageError, naming the numbers of head ranks that work, unless `head_ranks` divides H
/// and one of K and `head_ranks` divides the other.
void check_head_ranks(int64_t heads, int64_t kv_heads, int head_ranks);

/// For one shape of heads. Every call but the constructor is collective over the head ranks.
class HeadExchange {
 public:
  /// Throws: as check_head_ranks.
  HeadExchange(Backend& backend, Communicator& head, int64_t heads, int64_t kv_heads);

  int64_t heads() const { return heads_; }        ///< of this rank: H/U
  int64_t kv_heads() const { return kv_heads_; }  ///< of this rank: max(1, K/U)
  bool replicates() const { return replicas_ > 1; }

  /// x (T/U, H, …) to (T, H/U, …).
  Tensor queries_in(ConstView x);
  /// kv (T/U, 2K, D) to (T, 2 max(1, K/U), D).
  Tensor keys_in(ConstView kv);
  /// y (T, H/U, …), contiguous, to x (T/U, H, …) of the same dtype.
  void queries_out(ConstView y, View x);
  /// dkv (T, 2 max(1, K/U), D) f32, contiguous, to x (T/U, 2K, D) A: replicas are added in f32, the
  /// result is rounded once.
  void keys_out(ConstView dkv, View x);

 private:
  int64_t first_kv_head(int rank) const { return rank / replicas_ * kv_heads_; }
  Tensor traded(ConstView contiguous);
  /// Columns of x that rank `rank` has, and where they lie in its piece.
  template <class Body>
  void for_key_columns(int rank, int64_t all_kv_heads, const Body& body) const;

  Backend& backend_;
  Communicator& head_;
  int64_t heads_;
  int64_t kv_heads_;
  int replicas_;  ///< ranks that have the same key/value heads
};

}  // namespace ringbolt
