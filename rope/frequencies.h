// Rotary frequency schedules: the inverse frequency theta_i of each pair of elements of a head.
//
// Double precision throughout: at position 2^20 a float32 frequency would be off by up to 0.07 rad.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/config.h"

namespace ringbolt {

/// theta_i = base^(-2i/dim), i = 0 … dim/2 - 1, in rad a position (RoFormer, arXiv 2104.09864, section 3.2.2).
/// Requires: dim even and positive, base > 1.
std::vector<double> default_frequencies(int64_t dim, double base);

/// theta_i / factor, the same as dividing positions by it (position interpolation, arXiv 2306.15595, eq. 4).
std::vector<double> linear_frequencies(int64_t dim, double base, double factor);

/// The schedule that a model's configuration asks for, over its whole head.
std::vector<double> frequencies_of(const ModelConfig& config);

}  // namespace ringbolt
