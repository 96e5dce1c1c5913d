// Comparison with the oracle: how many values, how far apart, and whether all are finite.
//
//   EXPECT_TRUE(close_in_norm(actual, expected, 1e-6));   |actual - expected|_2 <= bound *
//   |expected|_2 EXPECT_TRUE(close_to_largest(actual, expected, 1e-6)); max |actual - expected| <=
//   bound * max |expected|
//
// An empty comparison fails. An infinity is equal to itself alone and stays out of the sums; a NaN
// always fails.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace ringbolt::testing_support {

struct Comparison {
  int64_t compared = 0;
  int64_t not_finite = 0;       ///< NaN, or an infinity where the other side has something else
  double max_error = 0;         ///< largest absolute difference
  int64_t worst = 0;            ///< where it is
  double largest_expected = 0;  ///< largest magnitude of the expected values
  double error_norm = 0;        ///< 2-norm of the difference
  double expected_norm = 0;     ///< 2-norm of the expected values

  /// error_norm over expected_norm; over 1 where all is expected to be zero.
  double relative_to_norm() const { return error_norm / (expected_norm > 0 ? expected_norm : 1.0); }
  /// max_error over largest_expected; over 1 where all is expected to be zero.
  double relative_to_largest() const {
    return max_error / (largest_expected > 0 ? largest_expected : 1.0);
  }
  std::string str() const;
};

/// Requires: the same size (checked by the two below).
Comparison compare(std::span<const double> actual, std::span<const double> expected);

testing::AssertionResult close_in_norm(const std::vector<double>& actual,
                                       const std::vector<double>& expected, double bound);
testing::AssertionResult close_in_norm(const std::vector<float>& actual,
                                       const std::vector<double>& expected, double bound);
testing::AssertionResult close_to_largest(const std::vector<double>& actual,
                                          const std::vector<double>& expected, double bound);
testing::AssertionResult close_to_largest(const std::vector<float>& actual,
                                          const std::vector<double>& expected, double bound);

}  // namespace ringbolt::testing_support
