// Llama 3.1's scaling: periods that are long beside the original length are divided by the factor,
// short ones kept, and those between blended by their rotations.
#pragma once

#include <cstdint>
#include <vector>

namespace ringbolt {

/// By period: above L / low divided by the factor, below L / high kept, between (1 - g) theta /
/// factor + g theta with g = (L / period - low) / (high - low). Requires: 0 < low < high.
std::vector<double> llama3_frequencies(int64_t dim, double base, double factor, double low,
                                       double high, int64_t original_length);

}  // namespace ringbolt
