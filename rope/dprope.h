// DPRoPE (arXiv 2410.01490, section 3.3): each pair is divided by the factor or kept, whichever
// disturbs the distribution of its angles less.
#pragma once

#include <cstdint>
#include <vector>

namespace ringbolt {

/// theta_i / factor where D(kept) > D(divided), else theta_i, D being angle_disturbance from L to
/// factor * L. With interpolated_dimensions > 0, instead, that many dimensions (two a pair) are
/// divided, those that gain most first (the paper: 80 of 128 for twice the length, 64 for four
/// times).
std::vector<double> dprope_frequencies(int64_t dim, double base, double factor,
                                       int64_t original_length, int64_t interpolated_dimensions);

}  // namespace ringbolt
