// Vectors of f32 for kernels that are compiled once for each instruction set.
//
// The file that includes this one is compiled with the flags of its instruction set; everything
// here has internal linkage and no C++ library header is included, so that the linker cannot merge
// AVX-512 code into a function which an older machine runs. A "word" is 32 bits: one f32, or two
// bf16 that the bf16 dot product multiplies and adds together.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// (No instruction set uses all of them.)
#define RINGBOLT_SIMD __attribute__((always_inline, unused)) static inline

namespace ringbolt::cpu {
namespace {

// Constants in a namespace without a name are each file's own, as they have to be here.
// NOLINTBEGIN(misc-definitions-in-headers)
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
/// f32 lanes of a vector.
constexpr int kLanes = kVectorBytes / 4;

using Floats = float __attribute__((vector_size(kVectorBytes)));
using Ints = int32_t __attribute__((vector_size(kVectorBytes)));
using UnalignedFloats = float __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
using Halves = uint16_t __attribute__((vector_size(kVectorBytes / 2)));
using UnalignedHalves =
    uint16_t __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));
using Bytes = uint8_t __attribute__((vector_size(kVectorBytes / 4)));
using UnalignedBytes =
    uint8_t __attribute__((vector_size(kVectorBytes / 4), aligned(1), may_alias));
using UnalignedInts = int32_t __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));

#if defined(__AVX512F__)
/// Given where GCC 12 would warn of its own unmasked intrinsic
/// (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593).
constexpr __mmask16 kAllLanes = 0xffff;
#endif

constexpr float kInfinity = __builtin_inff();
// NOLINTEND(misc-definitions-in-headers)

RINGBOLT_SIMD Floats load(const float* p) { return *reinterpret_cast<const UnalignedFloats*>(p); }
RINGBOLT_SIMD Ints load(const int32_t* p) { return *reinterpret_cast<const UnalignedInts*>(p); }
RINGBOLT_SIMD void store(float* p, Floats x) { *reinterpret_cast<UnalignedFloats*>(p) = x; }
/// kLanes values of 16 bits, each in the low half of its lane.
RINGBOLT_SIMD Ints load_halves(const void* p) {
#if defined(__AVX512F__)
  // (GCC 12 makes two halves of the conversion below.)
  const __m256i halves = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return __builtin_bit_cast(Ints, _mm512_maskz_cvtepu16_epi32(kAllLanes, halves));
#else
  return __builtin_convertvector(*static_cast<const UnalignedHalves*>(p), Ints);
#endif
}
/// kLanes values of 8 bits, each in the low bits of its lane.
RINGBOLT_SIMD Ints load_bytes(const void* p) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return __builtin_bit_cast(Ints, _mm512_maskz_cvtepu8_epi32(kAllLanes, bytes));
#else
  return __builtin_convertvector(*static_cast<const UnalignedBytes*>(p), Ints);
#endif
}
RINGBOLT_SIMD Floats broadcast(float x) { return x - Floats{}; }
RINGBOLT_SIMD Ints broadcast(int32_t x) { return x - Ints{}; }
RINGBOLT_SIMD Floats as_floats(Ints x) { return __builtin_bit_cast(Floats, x); }
RINGBOLT_SIMD Ints as_ints(Floats x) { return __builtin_bit_cast(Ints, x); }

/// 0, 1, 2, …
RINGBOLT_SIMD Ints lane_numbers() {
  Ints x{};
  for (int i = 0; i < kLanes; ++i) x[i] = i;
  return x;
}

/// Lanewise mask ? a : b, for a mask of zeros and all ones.
RINGBOLT_SIMD Floats select(Ints mask, Floats a, Floats b) { return mask ? a : b; }

/// Asks for [p, p + bytes) to come to the second cache level.
RINGBOLT_SIMD void prefetch(const void* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(p) + i, 0, 2);
}

/// The larger; y where one of them is NaN.
RINGBOLT_SIMD Floats larger(Floats x, Floats y) {
#if defined(__AVX512F__)
  return __builtin_bit_cast(Floats, _mm512_maskz_max_ps(kAllLanes, __builtin_bit_cast(__m512, x),
                                                        __builtin_bit_cast(__m512, y)));
#elif defined(__AVX2__)
  return __builtin_bit_cast(
      Floats, _mm256_max_ps(__builtin_bit_cast(__m256, x), __builtin_bit_cast(__m256, y)));
#else
  return select(x > y, x, y);
#endif
}

/// The smaller; y where one of them is NaN.
RINGBOLT_SIMD Floats smaller(Floats x, Floats y) {
#if defined(__AVX512F__)
  return __builtin_bit_cast(Floats, _mm512_maskz_min_ps(kAllLanes, __builtin_bit_cast(__m512, x),
                                                        __builtin_bit_cast(__m512, y)));
#elif defined(__AVX2__)
  return __builtin_bit_cast(
      Floats, _mm256_min_ps(__builtin_bit_cast(__m256, x), __builtin_bit_cast(__m256, y)));
#else
  return select(x < y, x, y);
#endif
}

/// The next integer that is not below x; infinities as they are. Requires: |x| < 2^22, or infinite.
RINGBOLT_SIMD Floats ceiling(Floats x) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23
  const Floats nearest = (x + kRound) - kRound;
  return select(nearest < x, nearest + 1.0F, nearest);
}

/// 2^x: relative error at most 2^-22 for x in [-126, 127]; below, at most 2^-126, and 0 from -150
/// on; NaN for NaN. x = n + f with f in [-1/2, 1/2]; the polynomial for 2^f is that of Moshier's
/// Cephes library (exp2f). Requires: x <= 127.
RINGBOLT_SIMD Floats exp2(Floats x) {
#if defined(__AVX512F__)
  // (The reduction as one instruction, VREDUCEPS, takes five times as long as all of this on
  // Zen 4.)
  const Floats y = larger(broadcast(-150.0F), x);
  const __m512 wide = __builtin_bit_cast(__m512, y);
  const Floats n = __builtin_bit_cast(Floats, _mm512_maskz_roundscale_ps(kAllLanes, wide, 0));
  const Floats f = y - n;
#else
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves round(x) in the low bits
  const Floats y = larger(broadcast(-127.0F), x);
  const Floats shifted = y + kRound;
  const Floats f = y - (shifted - kRound);
#endif
  Floats p = broadcast(1.535336188319500e-4F);
  p = p * f + 1.339887440266574e-3F;
  p = p * f + 9.618437357674640e-3F;
  p = p * f + 5.550332471162809e-2F;
  p = p * f + 2.402264791363012e-1F;
  p = p * f + 6.931472028550421e-1F;
  p = p * f + 1.0F;
#if defined(__AVX512F__)
  return __builtin_bit_cast(Floats, _mm512_maskz_scalef_ps(kAllLanes, __builtin_bit_cast(__m512, p),
                                                           __builtin_bit_cast(__m512, n)));
#else
  // The bits of kRound leave at the top, n << 23 remains.
  return p * as_floats((as_ints(shifted) << 23) + (127 << 23));
#endif
}

/// Multiplies words and adds: f32 (bf16 operands are widened while they are packed).
struct F32Product {
  static constexpr int kPerWord = 1;
  RINGBOLT_SIMD Floats add(Floats a, Floats b, Floats c) { return a * b + c; }
};

#if defined(__AVX512BF16__)
/// The same for pairs of bf16, both products added to an f32.
struct Bf16Product {
  static constexpr int kPerWord = 2;
  RINGBOLT_SIMD Floats add(Floats a, Floats b, Floats c) {
    return __builtin_bit_cast(
        Floats, _mm512_dpbf16_ps(__builtin_bit_cast(__m512, c), __builtin_bit_cast(__m512bh, a),
                                 __builtin_bit_cast(__m512bh, b)));
  }
};
#endif

}  // namespace
}  // namespace ringbolt::cpu
