// YaRN (arXiv 2309.00071): pairs that turn often within the original length keep their frequency,
// pairs that hardly turn are divided by the factor, and a ramp leads from one to the other.
//
// The paper's ramp is linear in the rotations r_i = L / lambda_i (eq. 17-18, "NTK-by-parts"); all
// released code is linear in the pair's index between the pairs that make beta_fast and beta_slow
// rotations. In the middle they differ.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/model/rope_scaling.h"

namespace ringbolt {

/// Ends of the index ramp: pairs up to `low` are kept, pairs from `high` on are divided.
struct YarnRange {
  double low;
  double high;
};

/// The pair, not rounded, that makes `rotations` within L: dim ln(L / (2 pi rotations)) / (2 ln
/// base).
double yarn_correction(int64_t dim, double base, int64_t original_length, double rotations);

/// low = correction(beta_fast), high = correction(beta_slow); whole numbers outwards where
/// `truncate`; low at least 0, high at most dim - 1 (as released, though there are dim/2 pairs);
/// never equal.
YarnRange yarn_range(int64_t dim, double base, int64_t original_length, const RopeScaling& scaling);

/// theta_i (1 - w_i) + theta_i / factor * w_i, the weight w_i by scaling.ramp.
std::vector<double> yarn_frequencies(int64_t dim, double base, int64_t original_length,
                                     double factor, const RopeScaling& scaling);

/// NTK-by-parts as its author first released it (jquesnelle/yarn,
/// LlamaPartNTKScaledRotaryEmbedding, with its constants): theta_i up to the pair with 16
/// rotations, static NTK's frequencies around the one with 2, theta_i / factor from that with 0.75
/// on; index ramps between them. Requires: dim > 2.
std::vector<double> part_ntk_frequencies(int64_t dim, double base, int64_t original_length,
                                         double factor);

/// 0.1 m ln(factor) + 1, or 1 for a factor of at most 1 (section 3.4: sqrt(1/t)).
double yarn_mscale(double factor, double m = 1.0);

/// The factor on cos and sin: scaling.attention_factor, else the ratio of mscale and mscale_all_dim
/// where both are given and not zero, else yarn_mscale(factor).
double yarn_attention_factor(double factor, const RopeScaling& scaling);

}  // namespace ringbolt
