#include "core/base/random.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

using Words = std::array<uint32_t, 4>;

// Known answers of Random123's kat_vectors (philox4x32, 10 rounds): counter, key, result.
TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  EXPECT_EQ(Philox(0, 0).block(0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint64_t ones = ~uint64_t{0};
  EXPECT_EQ(Philox(ones, ones).block(ones),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Digits of pi: counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0.
  EXPECT_EQ(Philox(0x299f31d0a4093822, 0x0370734413198a2e).block(0x85a308d3243f6a88),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, DrawsUniformNumbersWithTheRightMoments) {
  const Philox random(7, 3);
  const int n = 200000;
  double sum = 0, squares = 0, smallest = 1, largest = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const double u = random.uniform(i);
    sum += u, squares += u * u;
    smallest = std::min(smallest, u), largest = std::max(largest, u);
  }
  EXPECT_GE(smallest, 0);
  EXPECT_LT(largest, 1);
  // Five standard errors: sqrt(1/12/n) of the mean, sqrt(4/45/n) of the mean square.
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
}

TEST(Philox, DrawsNormalNumbersWithTheRightMoments) {
  const Philox random(7, 3);
  const int n = 200000;
  double sum = 0, squares = 0, fourths = 0, neighbours = 0, before = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const double x = random.normal(i);
    sum += x, squares += x * x, fourths += x * x * x * x;
    neighbours += x * before;
    before = x;
  }
  // Five standard errors each: variances 1, 2, 96 and 1.
  EXPECT_NEAR(sum / n, 0, 5 * std::sqrt(1.0 / n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(fourths / n, 3, 5 * std::sqrt(96.0 / n));
  EXPECT_NEAR(neighbours / n, 0, 5 * std::sqrt(1.0 / n));
}

TEST(Philox, SeparatesSeedsStreamsAndIndices) {
  std::set<uint64_t> seen;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{2}}) {
    for (uint64_t stream : {uint64_t{0}, uint64_t{1}, uint64_t{2}}) {
      for (uint64_t index : {uint64_t{0}, uint64_t{1}, uint64_t{2}})
        seen.insert(Philox(seed, stream).bits(index));
    }
  }
  EXPECT_EQ(seen.size(), 27U);
}

TEST(StreamOf, IsTheFnv1aHash) {
  EXPECT_EQ(stream_of(""), 0xcbf29ce484222325U);
  EXPECT_EQ(stream_of("a"), 0xaf63dc4c8601ec8cU);
  EXPECT_EQ(stream_of("foobar"), 0x85944171f73967e8U);
}

}  // namespace
}  // namespace ringbolt
