#include "core/base/bf16.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

float rounded(float x) { return to_float(to_bf16(x)); }

TEST(Bf16, IsExactForEachOfItsOwnValues) {
  int compared = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bf16 x{static_cast<uint16_t>(bits)};
    if (std::isnan(to_float(x))) continue;
    ASSERT_EQ(to_bf16(to_float(x)).bits, x.bits);
    ++compared;
  }
  EXPECT_EQ(compared, 65536 - 2 * 127);  // 127 NaNs of either sign
}

TEST(Bf16, RoundsTiesToEven) {
  EXPECT_EQ(rounded(1.0F + 0x1p-8F), 1.0F);  // between 1 and 1 + 2^-7: 1 is even
  EXPECT_EQ(rounded(1.0F + 0x1p-7F + 0x1p-8F), 1.0F + 0x1p-6F);   // the upper neighbour is even
  EXPECT_EQ(rounded(1.0F + 0x1p-8F + 0x1p-20F), 1.0F + 0x1p-7F);  // past the tie
  EXPECT_EQ(rounded(-1.0F - 0x1p-8F), -1.0F);
}

TEST(Bf16, KeepsInfinitiesNansAndZerosWhatTheyAre) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(rounded(infinity), infinity);
  EXPECT_EQ(rounded(-infinity), -infinity);
  EXPECT_EQ(rounded(std::numeric_limits<float>::max()), infinity);
  EXPECT_TRUE(std::signbit(rounded(-0.0F)));
  for (uint32_t bits : {0x7f800001U, 0x7fffffffU, 0xff800001U, 0x7fc00000U}) {
    EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(bits)))) << std::hex << bits;
  }
}

TEST(Bf16, IsOffByAtMostTwoToTheMinusEight) {
  double worst = 0;
  for (uint32_t i = 0; i < 100000; ++i) {
    const float x = std::bit_cast<float>(0x3f800000U + i * 83U);  // 1 to 2, every 83rd float
    worst = std::max(worst, static_cast<double>(std::abs(rounded(x) - x) / x));
  }
  EXPECT_LE(worst, 0x1p-8);  // 8 digits of significand: half a unit of 2^-7
  EXPECT_GT(worst, 0x1p-9);
}

}  // namespace
}  // namespace ringbolt
