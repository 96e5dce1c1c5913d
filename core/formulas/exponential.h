// exp and log for row-wise kernels, written so that a compiler turns a loop over them into vector
// instructions.
#pragma once

#include <bit>
#include <cstdint>

#include "core/base/host_device.h"

namespace ringbolt::formulas {

/// e^x. Relative error below 2^-22 for -87 <= x <= 88; 0 below -87 (results that would be
/// denormal), inf above 88.7; NaN for NaN. Cody-Waite reduction to |r| <= ln(2)/2, then the
/// degree-6 Taylor-like minimax polynomial.
RINGBOLT_HD float exp_f32(float x) {
  constexpr float kLog2e = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  const float clamped = x < -87.0F ? -87.0F : (x > 88.7F ? 88.7F : x);
  const float n = __builtin_rintf(clamped * kLog2e);
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  // 2^n in two factors, as n reaches 128 where x is near the largest float's logarithm.
  const int32_t whole = static_cast<int32_t>(n);
  const int32_t half = whole >> 1;
  const float scale_a = std::bit_cast<float>((half + 127) << 23);
  const float scale_b = std::bit_cast<float>((whole - half + 127) << 23);
  const float y = p * scale_a * scale_b;
  const float low = x < -87.0F ? 0.0F : y;
  const float high = x > 88.7F ? std::bit_cast<float>(0x7f800000) : low;
  return x != x ? x : high;
}

}  // namespace ringbolt::formulas
