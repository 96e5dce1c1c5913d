// Options of commands that only use a model: positions that it was trained on stand for all tokens
// of a longer text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "apps/options.h"
#include "core/evaluate/parallel_context.h"
#include "core/model/config.h"
#include "core/model/rotary_table.h"
#include "io/json.h"

namespace ringbolt {

enum class UntunedMap { none, grouped, recurrent, parallel_windows };

struct UntunedPositions {
  UntunedMap map = UntunedMap::none;
  std::optional<int64_t> parallel_window;
  std::optional<int64_t> parallel_query;

  void declare(OptionSet& options);
  /// Throws: UsageError where the map does not go with the model's rotary method, or an option with
  /// the map.
  void validate(const ModelConfig& model) const;
  /// Windows and query for a model, which has positions for both and for `generated` tokens more;
  /// nothing for another map. Throws: UsageError where they leave no room.
  std::optional<ParallelContext> parallel(const ModelConfig& model, int64_t generated = 0) const;
  /// The tables at mapped positions of texts of `length` tokens; `windows` are those of
  /// parallel_windows.
  RotaryTables map_positions(RotaryTables tables, int64_t length, const ModelConfig& model,
                             const std::optional<ParallelWindows>& windows) const;
  /// For results: "none", "grouped", …
  std::string name() const;
  /// A line for people.
  std::string describe(const ModelConfig& model) const;
};

}  // namespace ringbolt
