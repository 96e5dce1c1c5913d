// Golden values: arXiv 2405.14591, tables 2 and 4, and its formulas computed in double precision.
#include "rope/base_bound.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "rope/frequencies.h"

namespace ringbolt {
namespace {

TEST(SimilarityBound, HasTheValuesOfItsFormula) {
  const auto f = default_frequencies(128, 1e4);
  EXPECT_EQ(similarity_bound(f, 0), 64);
  EXPECT_NEAR(similarity_bound(f, 1), 62.093684, 5e-7);
  EXPECT_NEAR(similarity_bound(f, 10), 42.820023, 5e-7);
  EXPECT_NEAR(similarity_bound(f, 100), 30.543455, 5e-7);
  EXPECT_NEAR(similarity_bound(f, 1000), 10.177728, 5e-7);
  EXPECT_NEAR(similarity_bound(f, 1707), -0.498932, 5e-7);
  EXPECT_NEAR(similarity_bound(f, 4096), -3.382614, 5e-7);
  EXPECT_NEAR(similarity_bound(default_frequencies(128, 500), 171), -0.249325, 5e-7);
  EXPECT_NEAR(similarity_bound(default_frequencies(128, 5e5), 1000), 31.504889, 5e-7);
  EXPECT_NEAR(similarity_bound(default_frequencies(128, 5e5), 4096), 24.496189, 5e-7);
}

TEST(FirstNegativeDistance, IsThatOfTheBase) {
  const auto first = [](int64_t dim, double base) {
    return first_negative_distance(default_frequencies(dim, base), 1 << 18).value_or(-1);
  };
  EXPECT_EQ(first(128, 100), 59);
  EXPECT_EQ(first(128, 500), 171);
  EXPECT_EQ(first(128, 1e4), 1707);
  EXPECT_EQ(first(128, 5e5), 18438);
  EXPECT_EQ(first(128, 1e6), 27115);
  EXPECT_EQ(first(128, 5e6), 82999);
  EXPECT_EQ(first(128, 1e7), 144660);
}

TEST(FirstNegativeDistance, DependsOnTheHeadNotMonotonously) {
  const std::vector<std::array<int64_t, 3>> known{
      {32, 474, 2089}, {64, 725, 9937}, {80, 1159, 5589}, {96, 1046, 14160}, {256, 2653, 37791}};
  for (const auto& [dim, at_1e4, at_5e5] : known) {
    EXPECT_EQ(first_negative_distance(default_frequencies(dim, 1e4), 1 << 16), at_1e4) << dim;
    EXPECT_EQ(first_negative_distance(default_frequencies(dim, 5e5), 1 << 16), at_5e5) << dim;
  }
}

TEST(FirstNegativeDistance, IsAbsentWhereTheBaseServesTheLength) {
  EXPECT_EQ(first_negative_distance(default_frequencies(128, 1e4), 1706), std::nullopt);
  EXPECT_EQ(first_negative_distance(default_frequencies(128, 1e4), 1707), 1707);
}

TEST(CountNegativeDistances, ReproducesTable4) {
  const auto larger_base = default_frequencies(128, 5e6);
  // "Method 2": NTK by a factor of 8 up to pair 43, position interpolation from 44 on.
  auto mixed = default_frequencies(128, 1e4 * std::pow(8.0, 128.0 / 88.0));
  const auto plain = default_frequencies(128, 1e4);
  for (size_t i = 44; i < 64; ++i) mixed[i] = plain[i] / 8;
  EXPECT_EQ(count_negative_distances(larger_base, 15 * 1024), 0);
  EXPECT_EQ(count_negative_distances(larger_base, 30 * 1024), 0);
  EXPECT_EQ(count_negative_distances(mixed, 15 * 1024), 97);
  EXPECT_EQ(count_negative_distances(mixed, 30 * 1024), 2554);
}

TEST(CountNegativeDistances, MissesNoneInStretchesThatItSkips) {
  int64_t negative = 0;
  for (const double base : {300.0, 1e4, 1.7e5, 6.4e5, 5e8}) {
    for (const int64_t length : {0, 63, 256, 317, 40000}) {
      const auto f = default_frequencies(128, base);
      int64_t expected = 0;
      for (int64_t m = 0; m <= length; ++m) expected += similarity_bound(f, m) < 0 ? 1 : 0;
      EXPECT_EQ(count_negative_distances(f, length), expected) << base << ", " << length;
      negative += expected;
    }
  }
  EXPECT_GT(negative, 10000);
}

TEST(BaseBound, FindsTheFirstIntervalAndTheTail) {
  constexpr double kFine = 0.0005;
  EXPECT_NEAR(first_feasible_base(128, 1000, kFine), 4206, 5);
  EXPECT_NEAR(first_feasible_base(128, 2048, kFine), 1.159e4, 20);
  EXPECT_NEAR(first_feasible_base(128, 4000, kFine), 2.692e4, 30);
  EXPECT_NEAR(first_feasible_base(128, 8192, kFine), 8.377e4, 90);
  const BaseBound at_1000 = base_lower_bound(128, 1000);
  EXPECT_GE(at_1000.first_feasible, 4206);
  EXPECT_LE(at_1000.first_feasible, 4329);
  EXPECT_NEAR(at_1000.always_feasible_from, 6018, 70);  // on a grid of 1 %
  EXPECT_NEAR(base_lower_bound(128, 2048).always_feasible_from, 2.277e4, 260);
}

TEST(BaseBound, IsWithinAFactorOfTable2) {
  const std::vector<std::pair<int64_t, double>> published{
      {1000, 4.3e3},   {2000, 1.6e4},   {4000, 2.7e4},   {8192, 8.4e4},
      {16000, 3.1e5},  {32768, 6.4e5},  {65536, 2.1e6},  {131072, 7.8e6},
      {262144, 3.6e7}, {524288, 6.4e7}, {1048576, 5.1e8}};
  for (const auto& [length, base] : published) {
    const double found = first_feasible_base(128, length);
    EXPECT_LT(found, 1.5 * base) << length;
    EXPECT_GT(found, base / 1.5) << length;
  }
}

TEST(BaseBound, FirstIntervalsOfLongContextsAreThoseOfTheFormula) {
  constexpr double kFine = 0.0005;
  EXPECT_NEAR(first_feasible_base(128, 16000, kFine), 2.317e5, 120);
  EXPECT_NEAR(first_feasible_base(128, 32768, kFine), 6.30e5, 500);
  EXPECT_NEAR(first_feasible_base(128, 65536, kFine), 2.09e6, 1500);
}

TEST(BaseBound, PublishedBasesFailAtAFewDistancesOnly) {
  struct Published {
    int64_t length;  // in units of 1024
    double base;
    int64_t first;  // m with B(m) < 0; -1 for none
    int64_t count;
  };
  for (const Published& p :
       {Published{1, 4.3e3, -1, 0}, Published{2, 1.6e4, -1, 0}, Published{4, 2.7e4, 4079, 2},
        Published{8, 8.4e4, -1, 0}, Published{16, 3.1e5, 12223, 10}, Published{32, 6.4e5, 27685, 7},
        Published{64, 2.1e6, -1, 0}, Published{128, 7.8e6, 128915, 4},
        Published{256, 3.6e7, 207455, 5}, Published{512, 6.4e7, 511210, 1},
        Published{1024, 5.1e8, 874868, 2}}) {
    const auto f = default_frequencies(128, p.base);
    EXPECT_EQ(first_negative_distance(f, p.length * 1024).value_or(-1), p.first) << p.length << "K";
    EXPECT_EQ(count_negative_distances(f, p.length * 1024), p.count) << p.length << "K";
  }
}

TEST(BaseBound, PublishedBasesFailByLittle) {
  const auto lowest = [](double base, int64_t length) {
    const auto f = default_frequencies(128, base);
    double least = 64;
    for (int64_t m = 0; m <= length; ++m) least = std::min(least, similarity_bound(f, m));
    return least;
  };
  EXPECT_NEAR(lowest(2.7e4, 4096), -0.48, 0.005);
  EXPECT_NEAR(lowest(3.1e5, 16384), -1.86, 0.005);
}

TEST(BaseBound, BasesKnownForHalfAMillionTokensServeThem) {
  // The known first bases of 256000 and 512000 tokens are those of a grid of some 0.5 %; finer ones
  // find earlier intervals (the first of 256000 is near 2.37e7). What holds for all grids is that
  // bases there serve the length.
  const auto serves = [](double base, int64_t length) {
    return !first_negative_distance(default_frequencies(128, base), length);
  };
  const auto serves_near = [&](double base, int64_t length) {
    for (double x = 0.995 * base; x < 1.005 * base; x *= 1.0005) {
      if (serves(x, length)) return true;
    }
    return false;
  };
  EXPECT_TRUE(serves_near(3.07e7, 256000));
  EXPECT_TRUE(serves_near(6.325e7, 512000));
  EXPECT_FALSE(serves(2.9e7, 256000));
  EXPECT_FALSE(serves(6.0e7, 512000));
  const double early = 23662834.031888545;
  const auto f = default_frequencies(128, early);
  for (int64_t m = 0; m <= 256000; ++m) ASSERT_GE(similarity_bound(f, m), 0) << m;
}

TEST(BaseBound, FitIsNearTheTable) {
  EXPECT_NEAR(fitted_base_bound(1000), 0.0424 * std::pow(10.0, 3 * 1.628), 1e-8);
  EXPECT_LT(fitted_base_bound(131072), 1.5 * 7.8e6);
  EXPECT_GT(fitted_base_bound(131072), 7.8e6 / 1.5);
}

}  // namespace
}  // namespace ringbolt
