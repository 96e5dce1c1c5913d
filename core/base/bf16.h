// bfloat16: the upper half of an IEEE binary32. Relative rounding error at most 2^-8; range as f32.
#pragma once

#include <bit>
#include <cstdint>

#include "core/base/host_device.h"

namespace ringbolt {

struct bf16 {
  uint16_t bits;
};

/// Exact.
RINGBOLT_HD float to_float(bf16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
RINGBOLT_HD float to_float(float x) { return x; }

/// Nearest, ties to even; NaN stays NaN (quiet), overflow becomes infinity.
RINGBOLT_HD bf16 to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
  const uint32_t quiet = (u >> 16) | 0x40U;
  const bool is_nan = (u & 0x7fffffffU) > 0x7f800000U;
  return bf16{static_cast<uint16_t>(is_nan ? quiet : rounded)};
}

template <class T>
RINGBOLT_HD T from_float(float x) {
  if constexpr (sizeof(T) == 2) {
    return to_bf16(x);
  } else {
    return x;
  }
}

}  // namespace ringbolt
