// What the model knows of rotary embedding: a table of cosines and sines for the tokens it holds.
#pragma once

#include <optional>

#include "core/tensor/tensor.h"

namespace ringbolt {

/// Filled by rope/ from global positions. R <= D is the rotated part of a head.
struct RotaryTable {
  Tensor cos;                         ///< (T, R/2) f32
  Tensor sin;                         ///< (T, R/2) f32
  std::optional<Tensor> query_scale;  ///< (T) f32, of the methods that scale queries by their position
};

}  // namespace ringbolt
