// Options of training on short text at long positions.
#pragma once

#include <cstdint>
#include <optional>

#include "apps/options.h"
#include "core/model/config.h"
#include "core/train/training_step.h"
#include "io/tokens.h"

namespace ringbolt {

enum class PositionMap { none, pose, randpos, skip_align };

struct PositionOptions {
  PositionMap map = PositionMap::none;
  std::optional<int64_t> reach;

  void declare(OptionSet& options);
  /// Positions lie below it.
  int64_t length(const TrainingRecipe& recipe) const {
    return map == PositionMap::none ? recipe.context_length : reach.value_or(recipe.context_length);
  }
  /// Nothing where there is no map. `data` must outlive it; its documents are SkipAlign's turns.
  /// Throws: UsageError where the reach is missing or below the context length.
  SequencePositions positions(const TrainingRecipe& recipe, const TokenDataset& data) const;
};

}  // namespace ringbolt
