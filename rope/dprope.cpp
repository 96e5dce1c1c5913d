#include "rope/dprope.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "rope/angle_distribution.h"
#include "rope/frequencies.h"

namespace ringbolt {

std::vector<double> dprope_frequencies(int64_t dim, double base, double factor,
                                       int64_t original_length, int64_t interpolated_dimensions) {
  const std::vector<double> kept = default_frequencies(dim, base);
  const std::vector<double> divided = linear_frequencies(dim, base, factor);
  const auto extended_length =
      static_cast<int64_t>(std::llround(factor * static_cast<double>(original_length)));
  const std::vector<double> if_kept =
      angle_disturbances(kept, original_length, kept, extended_length);
  const std::vector<double> if_divided =
      angle_disturbances(kept, original_length, divided, extended_length);
  const auto gain = [&](size_t i) { return if_kept[i] - if_divided[i]; };

  std::vector<size_t> order(kept.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return gain(a) > gain(b); });
  size_t count = static_cast<size_t>(interpolated_dimensions / 2);
  if (interpolated_dimensions == 0) {
    count = static_cast<size_t>(
        std::count_if(order.begin(), order.end(), [&](size_t i) { return gain(i) > 0; }));
  }
  std::vector<double> frequencies = kept;
  for (size_t k = 0; k < count; ++k) frequencies[order[k]] = divided[order[k]];
  return frequencies;
}

}  // namespace ringbolt
