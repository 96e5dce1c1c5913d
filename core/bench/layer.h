// What one layer's forward costs at a length at which it cannot be run: its pieces measured at a length that can, scaled
// by their floating-point operations.
#pragma once

#include <cstdint>

#include "core/backend/backend.h"
#include "core/model/config.h"

namespace ringbolt {

struct LayerForward {
  double product_rate;    ///< FLOP/s of the layer's matrix products, weighted as the layer has them
  double attention_rate;  ///< FLOP/s of causal attention, by the pairs that the mask leaves
  int64_t product_tokens;  ///< at which they were measured
  int64_t attention_tokens;
  double flops;    ///< of one layer's forward at the wanted length: products, and attention over half of all pairs
  double seconds;  ///< of it, at these rates; norms and other row-wise work not counted
};

/// Of one layer of `config` for a causal sequence of `tokens`. Each piece is timed for about `seconds`.
LayerForward layer_forward(Backend& backend, const ModelConfig& config, DType dtype, int64_t tokens, double seconds);

}  // namespace ringbolt
