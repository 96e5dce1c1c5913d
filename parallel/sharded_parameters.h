// Parameters whose optimizer state is divided over ranks (ZeRO stages 1 and 2, arXiv 1910.02054,
// section 5).
//
// Every group's flat buffer is padded to a multiple of the ranks and cut into equal pieces; rank r
// owns the r-th of each. The weights (A) are whole on every rank; f32 masters and moments exist of
// the own piece only, so each element has one owner. In an f32 model the masters are the own part
// of the weights themselves.
//
// Gradients are partial sums of this rank's tokens. Stage 1 keeps them whole and reduce-scatters
// each group when backward of the last micro-batch is through with it. Stage 2 keeps the own piece,
// and a whole group only from its first use in a micro-batch to its completion. Sums are formed in
// rank order: the same ranks give the same bits.
//
// Buffers go to the communicator as they are: it must be one of the backend's memory.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "core/model/parameters.h"
#include "parallel/communicator.h"

namespace ringbolt {

/// What else than masters and moments is divided.
enum class ShardState {
  optimizer,  ///< nothing (ZeRO-1): gradients are reduced once a step
  gradients,  ///< gradients (ZeRO-2): reduced after every micro-batch
};

class ShardedParameters final : public ParameterStore {
 public:
  /// For training, over all of `ranks`, which must outlive it. Weights and moments are zero.
  ShardedParameters(Backend& backend, Communicator& ranks, const ModelConfig& config, DType dtype,
                    ShardState state);

  const ModelConfig& config() const override { return config_; }
  DType dtype() const override { return dtype_; }
  ConstView weights(int64_t group) override;
  View gradients(int64_t group) override;
  void zero_gradients() override;
  void gradients_complete(int64_t group, MicroBatch which) override;
  void for_each(const std::function<void(const ParameterPiece&)>& visit) override;
  void weights_changed() override;
  GradientNorms gradient_norms() override;
  void update(const AdamWStep& step, float rotary_gradient_scale) override;

 private:
  /// Of one group: N elements padded, n = N / ranks in a piece.
  struct Shard {
    int64_t piece = 0;      ///< n
    Tensor weights;         ///< (N) A
    Tensor masters;         ///< (n) f32; empty in an f32 model
    Tensor gradients;       ///< (N) f32; stage 2: empty but between first use and completion
    Tensor gradient_piece;  ///< (n) f32; empty in stage 1, whose piece lies in `gradients`
    Tensor m;               ///< (n) f32
    Tensor v;               ///< (n) f32
  };
  Shard& shard(int64_t group) { return shards_[static_cast<size_t>(group)]; }
  /// This rank's part of a buffer (N).
  View own(const Shard& s, View whole) const {
    return whole.slice_rows(begin(s), begin(s) + s.piece);
  }
  int64_t begin(const Shard& s) const { return s.piece * ranks_.rank(); }
  View own_gradients(Shard& s) {
    return s.gradient_piece.empty() ? own(s, s.gradients) : s.gradient_piece.view();
  }

  Backend& backend_;
  Communicator& ranks_;
  ModelConfig config_;
  DType dtype_;
  ShardState state_;
  std::vector<ParameterGroup> groups_;
  std::vector<Shard> shards_;
};

}  // namespace ringbolt
