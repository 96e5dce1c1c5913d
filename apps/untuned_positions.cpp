#include "apps/untuned_positions.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "rope/position_maps.h"

namespace ringbolt {
namespace {

const std::vector<std::pair<std::string, UntunedMap>>& words() {
  static const std::vector<std::pair<std::string, UntunedMap>> all{
      {"none", UntunedMap::none},
      {"grouped", UntunedMap::grouped},
      {"recurrent", UntunedMap::recurrent},
      {"parallel-windows", UntunedMap::parallel_windows}};
  return all;
}

}  // namespace

void UntunedPositions::declare(OptionSet& options) {
  options.choice<UntunedMap>(
      "position-map", map, words(),
      "Positions within the original length for all tokens: neighbours share one (grouped), they "
      "begin anew (recurrent), or the text is cut into windows that do not see each other and the "
      "last tokens, the query, see all (parallel-windows)");
  options
      .add("parallel-query", "N", parallel_query,
           "For parallel-windows: tokens at the end that see every window")
      .at_least(1)
      .by_default("a quarter of the original length");
  options
      .add("parallel-window", "N", parallel_window,
           "For parallel-windows: tokens of a window, its <s> included")
      .at_least(2)
      .by_default("what the original length leaves beside the query");
  options.needs("parallel-query", "position-map", "only parallel-windows has a query");
  options.needs("parallel-window", "position-map", "only parallel-windows has windows");
}

std::string UntunedPositions::name() const {
  return std::find_if(words().begin(), words().end(),
                      [&](const auto& word) { return word.second == map; })
      ->first;
}

std::string UntunedPositions::describe(const ModelConfig& model) const {
  if (const auto context = parallel(model)) {
    return concat("positions: context in parallel windows of ", context->window,
                  " tokens; the last ", context->query, " tokens see all of them and are scored");
  }
  return concat("positions: ", name());
}

void UntunedPositions::validate(const ModelConfig& model) const {
  if (map != UntunedMap::parallel_windows && (parallel_window || parallel_query)) {
    throw UsageError(message(concat("--position-map ", name(), " has no windows and no query"),
                             "--parallel-window and --parallel-query are those of another map",
                             "Use --position-map parallel-windows, or leave them out."));
  }
  if (map == UntunedMap::none || !is_two_part(model.rope_scaling.method)) return;
  throw UsageError(
      message(concat("--position-map does not go with ", name_of(model.rope_scaling.method)),
              "that method has positions of its own for far tokens", "Leave one of them out."));
}

std::optional<ParallelContext> UntunedPositions::parallel(const ModelConfig& model,
                                                          int64_t generated) const {
  validate(model);
  if (map != UntunedMap::parallel_windows) return std::nullopt;
  const int64_t original = model.rope_original_length();
  const int64_t query = parallel_query.value_or(std::max<int64_t>(1, original / 4));
  const ParallelContext context{parallel_window.value_or(original - query - generated), query};
  if (context.window < 2) {
    const std::string more = generated > 0 ? concat(" and ", generated, " to generate") : "";
    throw UsageError(
        message(concat("a query of ", query, " tokens", more, " leaves no room for windows"),
                concat("the model has ", original, " positions"),
                generated > 0 ? "Use fewer --max-tokens, or give --parallel-window."
                              : "Use a smaller --parallel-query."));
  }
  return context;
}

RotaryTables UntunedPositions::map_positions(RotaryTables tables, int64_t length,
                                             const ModelConfig& model,
                                             const std::optional<ParallelWindows>& windows) const {
  if (map == UntunedMap::none) return tables;
  const int64_t original = model.rope_original_length();
  return [=, kind = map](std::span<const int64_t> positions) {
    switch (kind) {
      case UntunedMap::grouped:
        return tables(grouped_positions(positions, length, original));
      case UntunedMap::recurrent:
        return tables(recurrent_positions(positions, original));
      case UntunedMap::parallel_windows:
        return tables(parallel_window_positions(positions, windows.value()));
      case UntunedMap::none:
        break;
    }
    return tables(positions);
  };
}

}  // namespace ringbolt
