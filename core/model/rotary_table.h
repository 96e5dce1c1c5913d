// What the model knows of rotary embedding: a table of cosines and sines for the tokens it holds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/tensor/tensor.h"

namespace ringbolt {

/// Who turns queries and keys. The attention does where one rotation is not enough (attention in
/// two parts), and where keys are cached as they are, because their angles change with the length.
enum class RotatedBy { block, attention };

/// Filled by rope/ from global positions. R <= D is the rotated part of a head. Empty where the
/// attention rotates.
struct RotaryTable {
  Tensor cos;  ///< (T, R/2) f32
  Tensor sin;  ///< (T, R/2) f32
  std::optional<Tensor>
      query_scale;  ///< (T) f32, of the methods that scale queries by their position
  RotatedBy rotated_by = RotatedBy::block;
  View dangles = {};  ///< (T, R/2) f32: backward adds the gradient of the angles; empty where
                      ///< nothing asks for it
};

/// For a block whose attention rotates.
inline RotaryTable rotated_by_attention() {
  return {{}, {}, std::nullopt, RotatedBy::attention, {}};
}

/// The rotary table for positions (T), which rope/ fills.
using RotaryTables = std::function<RotaryTable(std::span<const int64_t> positions)>;

/// The table of the last positions, made anew when others are asked for.
class LastRotaryTable {
 public:
  explicit LastRotaryTable(RotaryTables make) : make_(std::move(make)) {}

  /// Holds until the next call with other positions.
  const RotaryTable& at(std::span<const int64_t> positions) {
    if (!table_ ||
        !std::equal(positions.begin(), positions.end(), positions_.begin(), positions_.end())) {
      table_.reset();  // two never take memory at once
      table_ = make_(positions);
      positions_.assign(positions.begin(), positions.end());
    }
    return *table_;
  }

 private:
  RotaryTables make_;
  std::vector<int64_t> positions_;
  std::optional<RotaryTable> table_;
};

}  // namespace ringbolt
