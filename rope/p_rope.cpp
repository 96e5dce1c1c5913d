#include "rope/p_rope.h"

#include <algorithm>
#include <cmath>

namespace ringbolt {

int64_t rotated_pairs(int64_t dim, double share) {
  return static_cast<int64_t>(std::floor(share * static_cast<double>(dim))) / 2;
}

void keep_rotated_share(std::vector<double>& frequencies, double share, RotatedPairs kept) {
  const int64_t rotated = rotated_pairs(2 * std::ssize(frequencies), share);
  if (kept == RotatedPairs::highest) {
    std::fill(frequencies.begin() + rotated, frequencies.end(), 0.0);
  } else {
    std::fill(frequencies.begin(), frequencies.end() - rotated, 0.0);
  }
}

}  // namespace ringbolt
