// The oracle's arrays: plain vectors of double, row-major, with the shape in the function that
// takes them.
//
// Everything under tests/support/reference/ is slow and meant to be obviously correct: whole
// sequences, no blocking, no running sums across calls, double precision. It shares no arithmetic
// with the implementation, only the enums and slice lists of the contract (core/backend/backend.h).
// Letters as in core/base/shape.h.
#pragma once

#include <cstdint>
#include <vector>

namespace ringbolt::reference {

using Values = std::vector<double>;

inline Values zeros(int64_t count) { return Values(static_cast<size_t>(count), 0.0); }

/// Row i of an array whose rows have `width` elements.
inline const double* row(const Values& x, int64_t i, int64_t width) { return x.data() + i * width; }
inline double* row(Values& x, int64_t i, int64_t width) { return x.data() + i * width; }

inline double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// y += factor * x.
inline void add_scaled(double factor, const double* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

/// a + b, elementwise.
inline Values sum(const Values& a, const Values& b) {
  Values c = a;
  for (size_t i = 0; i < c.size(); ++i) c[i] += b[i];
  return c;
}

}  // namespace ringbolt::reference
