// E4M3, the 8-bit float of fp8 attention: sign, four bits of exponent with bias 7, three of
// significand; no infinity, one NaN of either sign. (OCP 8-bit Floating Point Specification,
// revision 1.0, section 5.)
//
// Normal numbers are 2^-6 to 448 with a relative rounding error of at most 2^-4; below them
// multiples of 2^-9. What is to be stored is divided by a scale first, which here is always a power
// of two: then numbers that stay normal are rounded alike whatever the scale, and with it whatever
// else is in the tensor.
#pragma once

#include <bit>
#include <cstdint>

#include "core/base/host_device.h"

namespace ringbolt {

struct e4m3 {
  uint8_t bits;
};

inline constexpr float kLargestE4m3 = 448.0F;

/// Exact.
RINGBOLT_HD float to_float(e4m3 x) {
  // The fields of a float with four bits of exponent lie as those of an f32 with bias 127, of which
  // 7 are right: times 2^120. (A subnormal f32 takes part: devices and hosts must not flush them.)
  const uint32_t magnitude = x.bits & 0x7fU;
  const float value = std::bit_cast<float>(magnitude << 20) * 0x1p120F;
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x80U) << 24;
  const uint32_t bits = magnitude == 0x7fU ? 0x7fc00000U : std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>(sign | bits);
}

/// Nearest, ties to even. Saturating: what is larger than 448, infinity included, becomes 448; NaN
/// stays NaN. (As the instruction cvt.rn.satfinite.e4m3x2.f32 has it.)
RINGBOLT_HD e4m3 to_e4m3(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (u >> 24) & 0x80U;
  const uint32_t magnitude = u & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return e4m3{static_cast<uint8_t>(sign | 0x7fU)};
  if (magnitude >= 0x43e00000U) return e4m3{static_cast<uint8_t>(sign | 0x7eU)};  // 448
  if (magnitude < 0x3c800000U) {  // 2^-6: multiples of 2^-9
    // Adding 2^14 leaves the multiple in the low bits of the significand; 8 of them are the
    // smallest normal number.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14F;
    return e4m3{static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) & 0xfU))};
  }
  const uint32_t rounded = magnitude + 0x7ffffU + ((magnitude >> 20) & 1U);
  return e4m3{static_cast<uint8_t>(sign | ((rounded >> 20) - (120U << 3)))};
}

/// The scale of values of which `largest` is the largest finite magnitude: the power of two by
/// which they are divided, so that it becomes more than 224 and at most 448; 1 for 0. Scale and
/// inverse are normal numbers.
RINGBOLT_HD float e4m3_scale(float largest) {
  const uint32_t u = std::bit_cast<uint32_t>(largest);
  if (u == 0) return 1.0F;
  // 448 = 1.75 * 2^8.
  const int exponent = static_cast<int>(u >> 23) - 127 - 8 + ((u & 0x7fffffU) > 0x600000U ? 1 : 0);
  const int least = -118;
  return std::bit_cast<float>(static_cast<uint32_t>((exponent < least ? least : exponent) + 127)
                              << 23);
}

}  // namespace ringbolt
