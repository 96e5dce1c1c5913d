// One transformer block, forward and backward (LLaMA, arXiv 2302.13971, section 2.2):
//
//   x += attention(rotary(norm(x) Wq), rotary(norm(x) Wk), norm(x) Wv) Wo
//   x += swiglu(norm(x) Wgate, norm(x) Wup) Wdown
//
// The recompute policy says what forward keeps for backward. All policies run the same operations
// on the same numbers, so their gradients are bit-equal.
#pragma once

#include <string_view>

#include "core/model/attention.h"
#include "core/model/config.h"
#include "core/model/layer_views.h"
#include "core/model/pieces.h"
#include "core/model/rotary_table.h"

namespace ringbolt {

enum class Recompute {
  none,                  ///< keep everything but what norms and SwiGLU recompute cheaply
  block,                 ///< keep the block's input
  block_keep_attention,  ///< keep the block's input, the attention output and its log-sum-exp
};

/// "none", "block", "block-keep-attention". Throws: UsageError for another.
Recompute recompute_policy(std::string_view name);

/// What forward leaves for backward; a policy leaves some of it empty.
struct BlockActivations {
  Tensor input;      ///< (T, E)
  Tensor q;          ///< (T, H, D), rotated unless the attention does
  Tensor kv;         ///< (T, 2K, D), keys likewise
  Tensor attention;  ///< (T, H, D)
  Tensor lse;        ///< (T, H) f32
  Tensor middle;     ///< (T, E): the residual stream between the two branches
  Tensor gate_up;    ///< (T, 2F)
};

class Block {
 public:
  /// `piece_tokens`: how many tokens pass at a time through norms, projections and the
  /// feed-forward.
  Block(Backend& backend, const ModelConfig& config, int64_t piece_tokens = kPieceTokens)
      : backend_(backend), config_(config), piece_tokens_(piece_tokens) {}

  /// x (T, E) is overwritten with the block's output. Besides it the most that is live is
  /// attention's: q, k, v, its output and log-sum-exp, and what the attention itself takes.
  void forward(int64_t layer, const LayerViews<ConstView>& w, const RotaryTable& rotary,
               Attention& attention, View x) const;
  /// The same, and what `policy` keeps.
  BlockActivations forward_keeping(int64_t layer, const LayerViews<ConstView>& w,
                                   const RotaryTable& rotary, Attention& attention,
                                   Recompute policy, View x) const;
  /// dx (T, E), the gradient of the output, is overwritten with that of the input; g receives the
  /// weights' (+=).
  void backward(int64_t layer, const LayerViews<ConstView>& w, const LayerViews<View>& g,
                const RotaryTable& rotary, Attention& attention, BlockActivations kept,
                View dx) const;

 private:
  /// What stays of attention's operands and results after it.
  enum class Keep { all, output };

  void project(const LayerViews<ConstView>& w, const RotaryTable& rotary, ConstView x, View q,
               View kv) const;
  void attend(int64_t layer, const LayerViews<ConstView>& w, const RotaryTable& rotary,
              Attention& attention, Keep keep, BlockActivations& a, View x) const;
  void feed_forward(const LayerViews<ConstView>& w, View gate_up, View x) const;
  void restore(int64_t layer, const LayerViews<ConstView>& w, const RotaryTable& rotary,
               Attention& attention, BlockActivations& kept) const;
  void feed_forward_backward(const LayerViews<ConstView>& w, const LayerViews<View>& g,
                             ConstView middle, View gate_up, View dx) const;
  void attention_backward(int64_t layer, const LayerViews<ConstView>& w, const LayerViews<View>& g,
                          const RotaryTable& rotary, Attention& attention,
                          const BlockActivations& a, View dx) const;
  float epsilon() const { return static_cast<float>(config_.rms_norm_eps); }

  Backend& backend_;
  const ModelConfig& config_;
  int64_t piece_tokens_;
};

}  // namespace ringbolt
