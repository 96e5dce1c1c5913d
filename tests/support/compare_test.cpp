// The comparison can fail: each kind of difference is caught.
#include "tests/support/compare.h"

#include <limits>

#include <gtest/gtest.h>

namespace ringbolt::testing_support {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
using Doubles = std::vector<double>;

TEST(Compare, MeasuresTheErrorAgainstTheNormAndTheLargest) {
  const Comparison c = compare(Doubles{3, 4.5}, Doubles{3, 4});
  EXPECT_EQ(c.compared, 2);
  EXPECT_DOUBLE_EQ(c.relative_to_norm(), 0.1);
  EXPECT_DOUBLE_EQ(c.relative_to_largest(), 0.125);
  EXPECT_EQ(c.worst, 1);
}

TEST(Compare, RefusesWhatProvesNothing) {
  EXPECT_FALSE(close_in_norm(Doubles{}, Doubles{}, 1.0)) << "an empty comparison";
  EXPECT_FALSE(close_in_norm(Doubles{1}, Doubles{1, 2}, 1.0)) << "another size";
  EXPECT_FALSE(close_to_largest(Doubles{1.1}, Doubles{1}, 0.05)) << "over the bound";
  EXPECT_TRUE(close_to_largest(Doubles{1.1}, Doubles{1}, 0.15));
}

TEST(Compare, RefusesValuesThatAreNotFinite) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(close_in_norm(Doubles{nan}, Doubles{1}, 1e9));
  EXPECT_FALSE(close_in_norm(Doubles{nan}, Doubles{nan}, 1e9));
  EXPECT_FALSE(close_in_norm(Doubles{kInfinity}, Doubles{-kInfinity}, 1e9));
  EXPECT_FALSE(close_in_norm(Doubles{0}, Doubles{-kInfinity}, 1e9));
  EXPECT_TRUE(close_in_norm(Doubles{-kInfinity, 1}, Doubles{-kInfinity, 1}, 0));
}

}  // namespace
}  // namespace ringbolt::testing_support
