#include "tests/support/compare.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace ringbolt::testing_support {
namespace {

testing::AssertionResult judge(const std::vector<double>& actual,
                               const std::vector<double>& expected, double bound,
                               double (Comparison::*measure)() const) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure()
           << "sizes differ: " << actual.size() << " actual, " << expected.size() << " expected";
  }
  const Comparison c = compare(actual, expected);
  const bool good = c.compared > 0 && c.not_finite == 0 && (c.*measure)() <= bound;
  return (good ? testing::AssertionSuccess() : testing::AssertionFailure())
         << c.str() << "; bound " << bound;
}

std::vector<double> widened(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

}  // namespace

std::string Comparison::str() const {
  std::ostringstream out;
  out << "compared " << compared << " values: relative to the norm " << relative_to_norm()
      << ", to the largest " << relative_to_largest() << ", max error " << max_error << " at index "
      << worst << ", not finite " << not_finite;
  return out.str();
}

Comparison compare(std::span<const double> actual, std::span<const double> expected) {
  Comparison c;
  double error_squares = 0;
  double expected_squares = 0;
  for (size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    ++c.compared;
    if (std::isinf(expected[i]) && actual[i] == expected[i]) continue;
    if (!std::isfinite(actual[i]) || !std::isfinite(expected[i])) {
      ++c.not_finite;
      continue;
    }
    const double error = std::abs(actual[i] - expected[i]);
    error_squares += error * error;
    expected_squares += expected[i] * expected[i];
    c.largest_expected = std::max(c.largest_expected, std::abs(expected[i]));
    if (error > c.max_error) {
      c.max_error = error;
      c.worst = static_cast<int64_t>(i);
    }
  }
  c.error_norm = std::sqrt(error_squares);
  c.expected_norm = std::sqrt(expected_squares);
  return c;
}

testing::AssertionResult close_in_norm(const std::vector<double>& actual,
                                       const std::vector<double>& expected, double bound) {
  return judge(actual, expected, bound, &Comparison::relative_to_norm);
}

testing::AssertionResult close_in_norm(const std::vector<float>& actual,
                                       const std::vector<double>& expected, double bound) {
  return close_in_norm(widened(actual), expected, bound);
}

testing::AssertionResult close_to_largest(const std::vector<double>& actual,
                                          const std::vector<double>& expected, double bound) {
  return judge(actual, expected, bound, &Comparison::relative_to_largest);
}

testing::AssertionResult close_to_largest(const std::vector<float>& actual,
                                          const std::vector<double>& expected, double bound) {
  return close_to_largest(widened(actual), expected, bound);
}

}  // namespace ringbolt::testing_support
