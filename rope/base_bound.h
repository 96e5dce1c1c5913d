// The base of RoPE bounds the context length (arXiv 2405.14591): a base can serve contexts up to
// where B(m) = sum_i cos(m theta_i) turns negative, because from there on similar tokens get less
// attention than random ones.
//
// The bases that serve a length are thin intervals and then a tail: the published bound is the
// first of the intervals, so both ends are given.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace ringbolt {

/// B(m) (Theorem 1). At m = 0 the number of pairs.
double similarity_bound(std::span<const double> frequencies, int64_t distance);

/// The smallest m <= length with B(m) < 0; L_theta is the one before it.
std::optional<int64_t> first_negative_distance(std::span<const double> frequencies, int64_t length);

/// How many m in [0, length] have B(m) < 0.
int64_t count_negative_distances(std::span<const double> frequencies, int64_t length);

/// The smallest base on a logarithmic grid with B(m) >= 0 for all m <= length. A finer grid finds
/// thinner, earlier intervals; the published table is reproduced within a factor of 1.5 by steps of
/// 1 %.
double first_feasible_base(int64_t dim, int64_t length, double step = 0.01);

struct BaseBound {
  double first_feasible;        ///< as above
  double always_feasible_from;  ///< the base above which all on the grid were, up to 64 times the
                                ///< first one
};

/// `progress` is called now and then with the base that is being tried.
BaseBound base_lower_bound(int64_t dim, int64_t length,
                           const std::function<void(double base)>& progress = {});

/// The published fit of the bound: 0.0424 L^1.628 (figure 1).
double fitted_base_bound(int64_t length);

}  // namespace ringbolt
