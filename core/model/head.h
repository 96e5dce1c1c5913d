// The model's end: final norm, vocabulary matrix, and cross entropy in chunks of tokens, so that
// logits never exist for the whole sequence.
#pragma once

#include "core/model/layer_views.h"
#include "core/model/pieces.h"

namespace ringbolt {

/// What the loss of T tokens leaves on the device.
struct TokenLosses {
  Tensor losses;  ///< (T) f32: -log p(target), 0 where the target is negative
  Tensor hits;    ///< (T) i32: 1 where the target was the most likely token
};

class Head {
 public:
  /// `piece_tokens` bounds the tokens that `losses` takes at a time.
  Head(Backend& backend, const ModelConfig& config, int64_t piece_tokens = kPieceTokens)
      : backend_(backend), config_(config), piece_tokens_(piece_tokens) {}

  /// x (T, E): the last block's output; targets (T) i32.
  TokenLosses losses(const HeadViews<ConstView>& w, ConstView x, ConstView targets) const;
  /// Room for those of T tokens.
  TokenLosses allocate_losses(int64_t tokens) const;
  /// Losses, overwritten, and the gradient of sum(losses) * scale: x is overwritten with its own, g
  /// receives the weights'
  /// (+=).
  void losses_backward(const HeadViews<ConstView>& w, const HeadViews<View>& g, ConstView targets,
                       float scale, View x, TokenLosses& losses) const;
  /// logits (T, V) f32 of rows of x (T, E).
  void logits(const HeadViews<ConstView>& w, ConstView x, View logits) const;

 private:
  void chunked_losses(const HeadViews<ConstView>& w, const HeadViews<View>& g, ConstView normed,
                      ConstView targets, float scale, View dnormed, TokenLosses& losses) const;
  float epsilon() const { return static_cast<float>(config_.rms_norm_eps); }

  Backend& backend_;
  const ModelConfig& config_;
  int64_t piece_tokens_;
};

/// Tokens of a chunk: logits of at most 2^25 elements.
int64_t head_chunk_tokens(int64_t vocab_size);

}  // namespace ringbolt
