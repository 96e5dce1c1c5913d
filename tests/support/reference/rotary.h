// Reference of the rotary embedding (RoFormer, arXiv 2104.09864, equation 34), tables and rotation.
#pragma once

#include <span>

#include "core/backend/backend.h"
#include "tests/support/reference/values.h"

namespace ringbolt::reference {

struct RotaryTable {
  Values cos;  ///< (T, R/2)
  Values sin;  ///< (T, R/2)
};
/// Angle of token t and pair i: (positions[t] / linear_factor) * base^(-2 i / R).
RotaryTable rotary_table(std::span<const int64_t> positions, int64_t rotary_dims, double base,
                         double linear_factor = 1.0);

/// The first R = `rotary_dims` elements of each of the N heads of x (T, N, D), pair by pair, turned
/// by the table's angle (backward: by its negative). `scale` (T), where not empty, multiplies whole
/// rows in both directions.
Values rotary(const Values& x, const RotaryTable& table, const Values& scale, RotaryPairing pairing,
              RotaryDirection direction, int64_t tokens, int64_t heads, int64_t head_dim,
              int64_t rotary_dims);

/// The gradient (T, R/2) of the angles by which the pairs of x (T, N, D) were turned, summed over
/// heads: `x` is rotated, `dx` the gradient of it.
Values rotary_angle_backward(const Values& x, const Values& dx, RotaryPairing pairing,
                             int64_t tokens, int64_t heads, int64_t head_dim, int64_t rotary_dims);

}  // namespace ringbolt::reference
