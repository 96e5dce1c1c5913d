// How long one layer's forward takes at a length that is too long to be run for the question: its
// matrix products and its attention are timed at few tokens and scaled by their FLOP, which are
// linear and quadratic in the length.
//
// Norms, SwiGLU, rotation and residual sums are not counted, so a share of this time is an upper
// bound.
#pragma once

#include <cstdint>

#include "core/bench/workloads.h"

namespace ringbolt {

struct ForwardFlops {
  double matrices;   ///< 2 FLOP a token and parameter
  double attention;  ///< 4 D a visible query-key pair and head
};
/// Of one layer's forward over one causal sequence of `tokens` tokens.
ForwardFlops layer_forward_flops(const ModelConfig& config, int64_t tokens);
/// Of all layers and the head, with every token's logits.
ForwardFlops model_forward_flops(const ModelConfig& config, int64_t tokens);

struct LayerForward {
  ForwardFlops flops;        ///< at the length asked for
  double matrix_seconds;     ///< scaled to it
  double attention_seconds;  ///< scaled to it
  int64_t matrix_tokens;     ///< that were timed
  int64_t attention_tokens;  ///< that were timed

  double seconds() const { return matrix_seconds + attention_seconds; }
  /// FLOP/s.
  double matrix_rate() const { return flops.matrices / matrix_seconds; }
  double attention_rate() const { return flops.attention / attention_seconds; }
};

/// `seconds` for each of its pieces. `matrix_tokens` and `attention_tokens`: how many to time,
/// enough for the device to reach the rate that it has at the length.
LayerForward scaled_layer_forward(Backend& backend, const ModelConfig& config, int64_t tokens,
                                  DType dtype, double seconds, int64_t matrix_tokens,
                                  int64_t attention_tokens,
                                  AttentionDType attention_dtype = AttentionDType::model);

}  // namespace ringbolt
