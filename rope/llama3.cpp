#include "rope/llama3.h"

#include <algorithm>
#include <numbers>

#include "rope/frequencies.h"

namespace ringbolt {

std::vector<double> llama3_frequencies(int64_t dim, double base, double factor, double low,
                                       double high, int64_t original_length) {
  std::vector<double> frequencies = default_frequencies(dim, base);
  for (double& theta : frequencies) {
    const double rotations = static_cast<double>(original_length) * theta / (2 * std::numbers::pi);
    const double kept = std::clamp((rotations - low) / (high - low), 0.0, 1.0);
    theta = (1 - kept) * theta / factor + kept * theta;
  }
  return frequencies;
}

}  // namespace ringbolt
