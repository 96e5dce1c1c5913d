#include "rope/position_maps.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <unordered_set>

#include "core/base/random.h"

namespace ringbolt {
namespace {

/// Whole numbers of one sequence's map, in order.
class Draws {
 public:
  Draws(MapDraw draw, std::string_view map)
      : random_(draw.seed, stream_of(map) + static_cast<uint64_t>(draw.sequence)) {}

  /// Uniform in [low, high].
  int64_t between(int64_t low, int64_t high) {
    const auto count = static_cast<double>(high - low + 1);
    return low + std::min(high - low, static_cast<int64_t>(random_.uniform(next_++) * count));
  }

  /// `count` different numbers of [low, high], ascending (Floyd's algorithm).
  std::vector<int64_t> sample(int64_t count, int64_t low, int64_t high) {
    std::unordered_set<int64_t> chosen;
    for (int64_t top = high - count + 1; top <= high; ++top) {
      const int64_t drawn = between(low, top);
      chosen.insert(chosen.count(drawn) != 0 ? top : drawn);
    }
    std::vector<int64_t> sorted(chosen.begin(), chosen.end());
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }

 private:
  Philox random_;
  uint64_t next_ = 0;
};

/// Token t is at t + the shift of its part; part i begins at token cuts[i].
std::vector<int64_t> shifted(int64_t length, const std::vector<int64_t>& cuts,
                             const std::vector<int64_t>& shifts) {
  std::vector<int64_t> positions(static_cast<size_t>(length));
  size_t part = 0;
  int64_t shift = 0;
  for (int64_t t = 0; t < length; ++t) {
    while (part < cuts.size() && cuts[part] <= t) shift = shifts[part++];
    positions[static_cast<size_t>(t)] = t + shift;
  }
  return positions;
}

}  // namespace

std::vector<int64_t> pose_positions(MapDraw draw, int64_t length, int64_t reach, int64_t chunks) {
  Draws draws(draw, "PoSE");
  std::vector<int64_t> cuts;
  if (chunks == 2) {
    cuts.push_back(draws.between(1, (length + 1) / 2));
  } else if (chunks > 2) {
    cuts = draws.sample(chunks - 1, 1, length - 1);
  }
  std::vector<int64_t> shifts;
  for (size_t i = 0; i < cuts.size(); ++i) {
    shifts.push_back(draws.between(shifts.empty() ? 0 : shifts.back(), reach - length));
  }
  return shifted(length, cuts, shifts);
}

std::vector<int64_t> random_positions(MapDraw draw, int64_t length, int64_t reach) {
  return Draws(draw, "RandPos").sample(length, 0, reach - 1);
}

std::vector<int64_t> stretched_positions(MapDraw draw, int64_t length, int64_t reach) {
  if (length == 1) return {0};
  std::vector<int64_t> positions{0};
  const std::vector<int64_t> between = Draws(draw, "CLEX").sample(length - 2, 1, reach - 2);
  positions.insert(positions.end(), between.begin(), between.end());
  positions.push_back(reach - 1);
  return positions;
}

std::vector<int64_t> skip_align_positions(MapDraw draw, std::span<const int64_t> turns,
                                          int64_t reach, SkipStrategy strategy) {
  Draws draws(draw, "SkipAlign");
  const int64_t length = turns.back();
  std::vector<int64_t> cuts;
  for (size_t i = 0; i + 1 < turns.size(); ++i) {
    if (strategy == SkipStrategy::outer && i > 0) cuts.push_back(turns[i]);
    const bool has_inside = turns[i + 1] - turns[i] >= 2;
    if (strategy == SkipStrategy::inner && has_inside)
      cuts.push_back(draws.between(turns[i] + 1, turns[i + 1] - 1));
  }
  if (strategy == SkipStrategy::all) {
    for (int64_t t = 1; t < length; ++t) cuts.push_back(t);
  }
  std::vector<int64_t> shifts(cuts.size());
  for (int64_t& shift : shifts) shift = draws.between(0, reach - length);
  std::sort(shifts.begin(), shifts.end());
  return shifted(length, cuts, shifts);
}

std::vector<int64_t> grouped_positions(std::span<const int64_t> positions, int64_t length,
                                       int64_t original_length) {
  const int64_t group = std::max<int64_t>(1, (length + original_length - 1) / original_length);
  std::vector<int64_t> mapped(positions.begin(), positions.end());
  for (int64_t& position : mapped) position /= group;
  return mapped;
}

std::vector<int64_t> recurrent_positions(std::span<const int64_t> positions,
                                         int64_t original_length) {
  std::vector<int64_t> mapped(positions.begin(), positions.end());
  for (int64_t& position : mapped) position %= original_length;
  return mapped;
}

std::vector<int64_t> parallel_window_positions(std::span<const int64_t> positions,
                                               const ParallelWindows& windows) {
  std::vector<int64_t> mapped;
  for (const int64_t p : positions) {
    mapped.push_back(p < windows.query_begin ? p % windows.window
                                             : windows.longest() + p - windows.query_begin);
  }
  return mapped;
}

}  // namespace ringbolt
