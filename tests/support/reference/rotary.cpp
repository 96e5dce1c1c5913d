#include "tests/support/reference/rotary.h"

#include <cmath>

namespace ringbolt::reference {

RotaryTable rotary_table(std::span<const int64_t> positions, int64_t rotary_dims, double base,
                         double linear_factor) {
  RotaryTable table;
  for (int64_t position : positions) {
    for (int64_t i = 0; i < rotary_dims / 2; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dims);
      const double angle = static_cast<double>(position) / linear_factor * std::pow(base, exponent);
      table.cos.push_back(std::cos(angle));
      table.sin.push_back(std::sin(angle));
    }
  }
  return table;
}

Values rotary(const Values& x, const RotaryTable& table, const Values& scale, RotaryPairing pairing,
              RotaryDirection direction, int64_t tokens, int64_t heads, int64_t head_dim,
              int64_t rotary_dims) {
  Values y = x;
  const int64_t pairs = rotary_dims / 2;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      const double* in = row(x, t * heads + h, head_dim);
      double* out = row(y, t * heads + h, head_dim);
      for (int64_t i = 0; i < pairs; ++i) {
        const int64_t first = pairing == RotaryPairing::interleaved ? 2 * i : i;
        const int64_t second = pairing == RotaryPairing::interleaved ? 2 * i + 1 : i + pairs;
        const double c = table.cos.data()[t * pairs + i];
        const double s =
            table.sin.data()[t * pairs + i] * (direction == RotaryDirection::backward ? -1.0 : 1.0);
        out[first] = c * in[first] - s * in[second];
        out[second] = s * in[first] + c * in[second];
      }
      if (scale.empty()) continue;
      for (int64_t d = 0; d < head_dim; ++d) out[d] *= scale.data()[t];
    }
  }
  return y;
}

Values rotary_angle_backward(const Values& x, const Values& dx, RotaryPairing pairing,
                             int64_t tokens, int64_t heads, int64_t head_dim, int64_t rotary_dims) {
  const int64_t pairs = rotary_dims / 2;
  Values dangles = zeros(tokens * pairs);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      const double* at = row(x, t * heads + h, head_dim);
      const double* d = row(dx, t * heads + h, head_dim);
      for (int64_t i = 0; i < pairs; ++i) {
        const int64_t first = pairing == RotaryPairing::interleaved ? 2 * i : i;
        const int64_t second = pairing == RotaryPairing::interleaved ? 2 * i + 1 : i + pairs;
        // d first / d angle = -second, d second / d angle = first.
        row(dangles, t, pairs)[i] += d[second] * at[first] - d[first] * at[second];
      }
    }
  }
  return dangles;
}

}  // namespace ringbolt::reference
