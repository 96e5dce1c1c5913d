#include "apps/position_options.h"

#include <algorithm>

#include "core/base/error.h"
#include "rope/position_maps.h"

namespace ringbolt {
namespace {

/// Offsets in the sequence of the documents that begin in it, from 0 to its length.
std::vector<int64_t> turns_of(const TokenDataset& data, int64_t begin, int64_t length) {
  std::vector<int64_t> turns{0};
  const auto& offsets = data.offsets();
  for (auto at = std::upper_bound(offsets.begin(), offsets.end(), begin);
       at != offsets.end() && *at < begin + length; ++at)
    turns.push_back(*at - begin);
  turns.push_back(length);
  return turns;
}

}  // namespace

void PositionOptions::declare(OptionSet& options) {
  options.choice<PositionMap>(
      "position-map", map,
      {{"none", PositionMap::none},
       {"pose", PositionMap::pose},
       {"randpos", PositionMap::randpos},
       {"skip-align", PositionMap::skip_align}},
      "Positions further apart than the tokens: PoSE shifts a second part, RandPos spreads "
      "all, SkipAlign (an interpretation) skips between documents");
  options.add("position-reach", "N", reach, "Positions of --position-map lie below it").at_least(1);
  options.needs("position-reach", "position-map", "it says how far a map reaches");
}

SequencePositions PositionOptions::positions(const TrainingRecipe& recipe,
                                             const TokenDataset& data) const {
  if (map == PositionMap::none) return {};
  if (!reach || *reach < recipe.context_length) {
    throw UsageError(
        message("--position-map has no --position-reach of at least the context length",
                concat("it spreads ", recipe.context_length, " tokens over more positions"),
                concat("Add --position-reach ", 4 * recipe.context_length, " or so.")));
  }
  const int64_t length = recipe.context_length;
  const int64_t target = *reach;
  const auto draw = [seed = recipe.seed](int64_t sequence) { return MapDraw{seed, sequence}; };
  switch (map) {
    case PositionMap::pose:
      return [=](int64_t s) { return pose_positions(draw(s), length, target); };
    case PositionMap::randpos:
      return [=](int64_t s) { return random_positions(draw(s), length, target); };
    default:
      break;
  }
  const SequenceOrder order(data.tokens(), length, recipe.seed);
  return [=, &data](int64_t s) {
    return skip_align_positions(draw(s), turns_of(data, order.begin(s), length), target,
                                SkipStrategy::outer);
  };
}

}  // namespace ringbolt
