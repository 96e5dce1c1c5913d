// LongRoPE (arXiv 2402.13753): a divisor of its own for each pair, found by search, one list up to
// the original length and another beyond it.
#pragma once

#include <cstdint>
#include <vector>

namespace ringbolt {

/// theta_i / factors_i. Requires: dim / 2 factors.
std::vector<double> longrope_frequencies(int64_t dim, double base,
                                         const std::vector<double>& factors);

/// The factor on cos and sin: sqrt(1 + ln(factor) / ln(L)), or 1 for a factor of at most 1.
double longrope_attention_factor(double factor, int64_t original_length);

}  // namespace ringbolt
