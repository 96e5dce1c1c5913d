// Gradients by central differences, in double: the check of every backward formula that needs no
// formula.
#pragma once

#include <functional>

#include "tests/support/reference/values.h"

namespace ringbolt::testing_support {

/// d f / d x_i for every element, by Richardson's extrapolation of two central differences: the
/// error is O(h^4), about 1e-11 relative for smooth functions of order one. Calls f four times an
/// element; x is restored.
inline reference::Values finite_difference(reference::Values& x, const std::function<double()>& f,
                                           double h = 1e-3) {
  reference::Values gradient;
  for (double& element : x) {
    const double kept = element;
    const auto at = [&](double offset) {
      element = kept + offset;
      return f();
    };
    const double coarse = (at(h) - at(-h)) / (2 * h);
    const double fine = (at(h / 2) - at(-h / 2)) / h;
    element = kept;
    gradient.push_back((4 * fine - coarse) / 3);
  }
  return gradient;
}

}  // namespace ringbolt::testing_support
