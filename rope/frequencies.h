// Rotary frequencies of the simplest kinds: the inverse frequency theta_i of each pair of elements
// of a head, from the base, a divided one, or a larger base ("NTK-aware").
//
// Double precision throughout: at position 2^20 a float32 frequency would be off by up to 0.07 rad.
#pragma once

#include <cstdint>
#include <vector>

namespace ringbolt {

/// theta_i = base^(-2i/dim), i = 0 … dim/2 - 1, in rad a position (RoFormer, arXiv 2104.09864,
/// section 3.2.2). Requires: dim even and positive, base > 1.
std::vector<double> default_frequencies(int64_t dim, double base);

/// theta_i / factor, the same as dividing positions by it (position interpolation, arXiv
/// 2306.15595, eq. 4).
std::vector<double> linear_frequencies(int64_t dim, double base, double factor);

/// base * factor^(dim / (dim - 2)): the last pair is divided by the factor, the first one kept
/// (static NTK-aware scaling; used in arXiv 2405.14591, section 2). Requires: dim > 2.
double ntk_base(int64_t dim, double base, double factor);

/// Dynamic NTK: base * (factor * l / L - (factor - 1))^(dim / (dim - 2)), l = max(length, L).
/// Requires: dim > 2.
double dynamic_ntk_base(int64_t dim, double base, double factor, int64_t original_length,
                        int64_t length);

/// NTK-RoPE-mixed: theta_i exp(-a (i + 1)^0.75), a = ln(factor) / (dim/2)^0.75: the last pair is
/// divided by the factor.
std::vector<double> ntk_mixed_frequencies(int64_t dim, double base, double factor);

/// The factor that the present length needs: max(1, length / L) (dynamic scaling, arXiv 2309.00071,
/// section 3.3).
double dynamic_factor(int64_t original_length, int64_t length);

}  // namespace ringbolt
