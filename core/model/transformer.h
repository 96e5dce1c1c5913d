// A LLaMA: embedding, blocks, head. One pass over *my* tokens, with the attention that knows about
// the others.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/model/block.h"
#include "core/model/head.h"
#include "core/model/parameters.h"
#include "core/model/recorded_micro_batches.h"

namespace ringbolt {

/// Sums over this rank's counted tokens.
struct LossSum {
  double loss = 0;     ///< natural logarithm
  int64_t tokens = 0;  ///< with a target >= 0
  int64_t hits = 0;    ///< of them, how many the model put first

  LossSum& operator+=(const LossSum& other) {
    loss += other.loss;
    tokens += other.tokens;
    hits += other.hits;
    return *this;
  }
};

/// Losses and hits of each token, on the host.
struct HostLosses {
  std::vector<float> losses;
  std::vector<int32_t> hits;
};

/// Called when `done` of a pass's layers are.
using LayerProgress = std::function<void(int64_t done)>;

class Transformer {
 public:
  /// The store decides the dtype; `piece_tokens` how many tokens pass at a time through what looks
  /// at each alone (core/model/pieces.h). Backend and store must outlive the model.
  Transformer(Backend& backend, ParameterStore& parameters, int64_t piece_tokens = kPieceTokens);

  const ModelConfig& config() const { return parameters_.config(); }

  /// Forward and backward of a micro-batch: gradients of scale * (sum of losses) are added to the
  /// store's. ids and targets (T); a negative target is not counted.
  LossSum train(std::span<const int32_t> ids, std::span<const int32_t> targets,
                const RotaryTable& rotary, Attention& attention, Recompute policy, float scale,
                MicroBatch which);

  /// From here on micro-batches that repeat are recorded and replayed: the same operations on the
  /// same numbers, given to the device at once. The store's weights, and gradients that outlive a
  /// micro-batch, must stay where they are. Ids, targets, losses and the rotary table have a place
  /// of their own from then on, which takes memory. Throws: UsageError on a device that does not
  /// record.
  void record_micro_batches();
  /// How many were replayed.
  int64_t replayed_micro_batches() const { return recorded_ ? recorded_->replayed() : 0; }

  /// Losses of each token, a layer at a time over all of them. Nothing is kept for backward or for
  /// another layer: what is live is the residual stream (T, E), one layer's q, k and v, attention's
  /// output and its own buffers, and pieces.
  HostLosses evaluate(std::span<const int32_t> ids, std::span<const int32_t> targets,
                      const RotaryTable& rotary, Attention& attention,
                      const LayerProgress& progress = {});

  /// Logits (V) of the token after the last of ids.
  std::vector<float> next_logits(std::span<const int32_t> ids, const RotaryTable& rotary,
                                 Attention& attention);

 private:
  /// What the host writes and reads of a micro-batch.
  struct MicroBatchTensors {
    Tensor ids;      ///< (T) i32
    Tensor targets;  ///< (T) i32
    TokenLosses losses;
  };
  MicroBatchTensors allocate(int64_t tokens) const;
  /// The table, in the place that recorded micro-batches read; its dangles there are zero.
  const RotaryTable& repeated(const RotaryTable& rotary);
  /// Device work alone: nothing of it waits, nor copies from or to the host.
  void forward_backward(MicroBatchTensors& tensors, const RotaryTable& rotary, Attention& attention,
                        Recompute policy, float scale, MicroBatch which);
  LayerViews<ConstView> weights(int64_t layer);
  HeadViews<ConstView> head_weights();
  Tensor embed(const Tensor& ids);
  Tensor forward(std::span<const int32_t> ids, const RotaryTable& rotary, Attention& attention,
                 const LayerProgress& progress);
  void check_ids(std::span<const int32_t> ids) const;

  Backend& backend_;
  ParameterStore& parameters_;
  std::vector<ParameterGroup> groups_;
  Block block_;
  Head head_;
  std::optional<RecordedMicroBatches> recorded_;
  // Of recorded micro-batches: one place for all.
  MicroBatchTensors repeated_;
  RotaryTable repeated_table_;
  Tensor repeated_dangles_;
};

}  // namespace ringbolt
