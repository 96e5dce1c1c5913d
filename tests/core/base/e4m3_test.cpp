#include "core/base/e4m3.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/random_values.h"
#include "tests/support/reference/e4m3.h"

namespace ringbolt {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

e4m3 code(int bits) { return e4m3{static_cast<uint8_t>(bits)}; }
float rounded(float x) { return to_float(to_e4m3(x)); }

TEST(E4m3, HasTheSpecifiedValueOfEachCode) {
  for (int bits = 0; bits < 256; ++bits) {
    const float value = to_float(code(bits));
    EXPECT_EQ(std::signbit(value), bits >= 128) << bits;
    if (bits % 128 == 127) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else {
      EXPECT_EQ(static_cast<double>(value), reference::value_of_code(bits)) << bits;
    }
  }
  // The specification's own table: largest, smallest normal, largest and smallest subnormal.
  EXPECT_EQ(to_float(code(0x7e)), 448.0F);
  EXPECT_EQ(to_float(code(0x08)), 0x1p-6F);
  EXPECT_EQ(to_float(code(0x07)), 0.875F * 0x1p-6F);
  EXPECT_EQ(to_float(code(0x01)), 0x1p-9F);
}

TEST(E4m3, IsExactForEachOfItsOwnValues) {
  for (int bits = 0; bits < 256; ++bits) {
    if (bits % 128 == 127) continue;
    EXPECT_EQ(to_e4m3(to_float(code(bits))).bits, bits);
  }
}

TEST(E4m3, RoundsToTheNearestAndTiesToEven) {
  // Around every value and every middle of two neighbours, and at random.
  std::vector<float> values;
  for (int bits = 0; bits < 126; ++bits) {
    const float low = to_float(code(bits));
    const float middle = (low + to_float(code(bits + 1))) / 2;
    for (const float x : {low, middle}) {
      for (const float near : {std::nextafter(x, -kInfinity), x, std::nextafter(x, kInfinity)}) {
        values.insert(values.end(), {near, -near});
      }
    }
  }
  for (const double x : testing_support::random_values(1, 20000, -460, 460)) {
    values.insert(values.end(), {static_cast<float>(x), static_cast<float>(x * 0x1p-12)});
  }
  for (const float x : values) {
    ASSERT_EQ(static_cast<double>(rounded(x)), reference::round_e4m3(static_cast<double>(x))) << x;
  }
}

TEST(E4m3, SaturatesAndKeepsNansAndZerosWhatTheyAre) {
  for (const float large : {448.0F, 460.0F, 464.0F, 500.0F, 1e30F, kInfinity}) {
    EXPECT_EQ(rounded(large), 448.0F);
    EXPECT_EQ(rounded(-large), -448.0F);
  }
  EXPECT_EQ(to_e4m3(-0.0F).bits, 0x80);
  EXPECT_EQ(rounded(0x1p-10F), 0.0F) << "half of the smallest number: 0 is even";
  for (const uint32_t bits : {0x7f800001U, 0x7fffffffU, 0xff800001U, 0x7fc00000U}) {
    EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(bits)))) << std::hex << bits;
  }
}

TEST(E4m3, ScaleIsThePowerOfTwoThatFillsTheRange) {
  for (const float largest :
       {1.0F, 1.75F, std::nextafter(1.75F, 2.0F), 448.0F, 449.0F, 3e38F, 1e-30F, 0.3F}) {
    const float scale = e4m3_scale(largest);
    int exponent;
    EXPECT_EQ(std::frexp(scale, &exponent), 0.5F) << "a power of two";
    EXPECT_LE(largest / scale, kLargestE4m3) << largest;
    EXPECT_GT(largest / scale, kLargestE4m3 / 2) << largest;
    EXPECT_TRUE(std::isnormal(1 / scale));
  }
  EXPECT_EQ(e4m3_scale(0.0F), 1.0F);
  for (const float tiny : {std::numeric_limits<float>::denorm_min(), 1e-38F}) {
    EXPECT_TRUE(std::isnormal(e4m3_scale(tiny)) && std::isnormal(1 / e4m3_scale(tiny)));
    EXPECT_LE(tiny / e4m3_scale(tiny), kLargestE4m3);
  }
}

TEST(E4m3, RoundsNormalNumbersAlikeForEveryScale) {
  for (const double x : testing_support::random_values(2, 2000, 0x1p-6, 1)) {
    const auto value = static_cast<float>(x);
    for (const float scale : {0x1p-8F, 0x1p-3F, 0x1p-1F}) {
      EXPECT_EQ(rounded(value / scale) * scale, rounded(value)) << value << " by " << scale;
    }
  }
}

}  // namespace
}  // namespace ringbolt
