// Positions of attention in two parts: beyond a window W a query meets keys at distances that the
// model was trained on.
//
//   Self-Extend (arXiv 2401.01325)  query floor(m/G) + W - floor(W/G), key floor(n/G)
//   ReRoPE (github.com/bojone/rerope)  every distance beyond W is W: query W, key 0
//   leaky ReRoPE  W + (m - n - W) / k: query m + W (k - 1), key n, all at frequencies divided by k
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/two_part_attention.h"
#include "rope/method.h"

namespace ringbolt {

/// Integer positions of the far part and by what frequencies are divided there.
struct FarPositions {
  std::vector<int64_t> queries;
  std::vector<int64_t> keys;
  double divisor = 1.0;
};

/// Requires: is_two_part(scaling.method).
FarPositions far_positions(const RopeScaling& scaling, std::span<const int64_t> positions);

/// The distance that a query at m and a key at n meet at, m >= n.
double effective_distance(const RopeScaling& scaling, int64_t m, int64_t n);

/// The longest sequence in which Self-Extend meets no distance of `trained_length` or more: (L - W)
/// G + W.
int64_t self_extend_reach(int64_t trained_length, int64_t window, int64_t group);

TwoPartTables make_two_part_tables(Backend& backend, const RotaryMethod& method,
                                   std::span<const int64_t> positions);

/// How core rotates for this method. Backend and method must outlive it.
TwoPartRotation two_part_rotation(Backend& backend, const RotaryMethod& method);

/// A placement for the method: `make` itself for most, and one in two parts where attention is.
std::unique_ptr<Placement> place_for_method(
    Backend& backend, const RotaryMethod& method,
    const std::function<std::unique_ptr<Placement>(DistanceRange distances)>& make);

}  // namespace ringbolt
