// The register tile of the attention kernels: C (kTileRows, N) = A * B over a depth of words, and
// packing of its operands.
//
// Included by attention_kernels.cpp only. A's elements are broadcast, B's rows are loaded as
// vectors. Depth is counted in words: for the bf16 dot product a word holds two neighbours of the
// summed dimension.
#pragma once

#include "core/cpu/simd.h"

namespace ringbolt::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 8;
constexpr int kTileVectors = 3;
#elif defined(__AVX2__)
constexpr int kTileRows = 4;
constexpr int kTileVectors = 3;
#else
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
#endif

/// Distance between rows of A where rows are contiguous along the depth: a constant, so that the
/// rows need no registers of their own; odd in cache lines, so that rows spread over all sets.
template <class Product>
constexpr int kRowWords = (256 + 16) / Product::kPerWord + (Product::kPerWord == 2 ? 8 : 0);

template <int V>
using Vectors = Floats[static_cast<unsigned>(V)];

template <int V>
struct Tile {
  Vectors<V> c[kTileRows];
};

/// c[m][n] = sum over p < depth of a[m * RowStep + p * depth_step] * b[p * b_step + n].
template <class Product, int V, int64_t RowStep>
RINGBOLT_SIMD Tile<V> multiply(int64_t depth, const float* a, int64_t depth_step, const float* b,
                               int64_t b_step) {
  Tile<V> tile;
#pragma GCC unroll 8
  for (int m = 0; m < kTileRows; ++m) {
#pragma GCC unroll 3
    for (int n = 0; n < V; ++n) tile.c[m][n] = Floats{};
  }
  for (int64_t p = 0; p < depth; ++p) {
    Vectors<V> row;
#pragma GCC unroll 3
    for (int n = 0; n < V; ++n) row[n] = load(b + n * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kTileRows; ++m) {
      const Floats x = broadcast(a[m * RowStep]);
#pragma GCC unroll 3
      for (int n = 0; n < V; ++n) tile.c[m][n] = Product::add(x, row[n], tile.c[m][n]);
    }
    a += depth_step;
    b += b_step;
  }
  return tile;
}

/// What becomes of C.
enum class Into {
  overwrite,   ///< C = A B
  accumulate,  ///< C += A B
  rescale,     ///< C = C * factors + A B, a factor for each column
};

/// One tile of C (kTileRows, V vectors), rows c_step apart. Not inlined: the callers' constants
/// would take registers that the tile needs.
template <class Product, int V, int64_t RowStep, Into kInto>
__attribute__((noinline)) void multiply_into(int64_t depth, const float* a, int64_t depth_step,
                                             const float* b, int64_t b_step, float* c,
                                             int64_t c_step, const float* factors = nullptr) {
  const Tile<V> tile = multiply<Product, V, RowStep>(depth, a, depth_step, b, b_step);
#pragma GCC unroll 8
  for (int m = 0; m < kTileRows; ++m) {
#pragma GCC unroll 3
    for (int n = 0; n < V; ++n) {
      float* p = c + m * c_step + n * kLanes;
      if constexpr (kInto == Into::overwrite) {
        store(p, tile.c[m][n]);
      } else if constexpr (kInto == Into::accumulate) {
        store(p, load(p) + tile.c[m][n]);
      } else {
        store(p, load(p) * load(factors + n * kLanes) + tile.c[m][n]);
      }
    }
  }
}

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Hands out aligned parts of a scratch buffer; with no buffer it only counts.
class Scratch {
 public:
  explicit Scratch(void* base) : base_(static_cast<char*>(base)) {}
  float* floats(int64_t n) {
    char* p = base_ == nullptr ? nullptr : base_ + used_;
    used_ += round_up(n * 4, 64);
    return reinterpret_cast<float*>(p);
  }
  int32_t* ints(int64_t n) { return reinterpret_cast<int32_t*>(floats(n)); }
  int64_t bytes() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

/// Calls body.template operator()<V>(first vector) for panels of V <= kTileVectors vectors that
/// share `vectors` evenly.
template <class Body>
RINGBOLT_SIMD void for_panels(int vectors, const Body& body) {
  const int panels = (vectors + kTileVectors - 1) / kTileVectors;
  for (int i = 0; i < panels; ++i) {
    const int first = vectors * i / panels;
    const int last = vectors * (i + 1) / panels;
    const int width = last - first;
    if (width == kTileVectors) {
      body.template operator()<kTileVectors>(first);
    } else if constexpr (kTileVectors > 2) {
      if (width == 2) {
        body.template operator()<2>(first);
      } else {
        body.template operator()<1>(first);
      }
    } else {
      body.template operator()<1>(first);
    }
  }
}

// --- elements ------------------------------------------------------------------------------------

/// Storage of a bf16; core/base/bf16.h has the same rounding, but reaches for C++ library headers.
struct Bf16 {
  uint16_t bits;
};

RINGBOLT_SIMD float widen(float x) { return x; }
RINGBOLT_SIMD float widen(Bf16 x) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16);
}

/// Nearest, ties to even; NaN stays NaN.
RINGBOLT_SIMD Bf16 narrow(float x) {
  const uint32_t u = __builtin_bit_cast(uint32_t, x);
  if ((u & 0x7fffffffU) > 0x7f800000U) return Bf16{static_cast<uint16_t>((u >> 16) | 0x40U)};
  return Bf16{static_cast<uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16)};
}

/// Storage of an E4M3 code; core/base/e4m3.h has the same formula for its value, and more on it.
/// Codes are widened to f32, or to bf16 where that is multiplied: both hold their values exactly.
struct E4m3 {
  uint8_t bits;
};

RINGBOLT_SIMD float widen(E4m3 x) {
  const uint32_t magnitude = x.bits & 0x7fU;
  const float value = __builtin_bit_cast(float, magnitude << 20) * 0x1p120F;
  const uint32_t bits = magnitude == 0x7fU ? 0x7fc00000U : __builtin_bit_cast(uint32_t, value);
  return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits & 0x80U) << 24 | bits);
}

/// As the elements of pairs.
RINGBOLT_SIMD Bf16 halved(Bf16 x) { return x; }
RINGBOLT_SIMD Bf16 halved(E4m3 x) {
  return Bf16{static_cast<uint16_t>(__builtin_bit_cast(uint32_t, widen(x)) >> 16)};
}

RINGBOLT_SIMD float pair_of(Bf16 low, Bf16 high) {
  return __builtin_bit_cast(
      float, static_cast<uint32_t>(low.bits) | (static_cast<uint32_t>(high.bits) << 16));
}

/// kLanes neighbours as f32.
RINGBOLT_SIMD Floats load_wide(const float* p) { return load(p); }
RINGBOLT_SIMD Floats load_wide(const Bf16* p) { return as_floats(load_halves(p) << 16); }
RINGBOLT_SIMD Floats load_wide(const E4m3* p) {
  const Ints codes = load_bytes(p);
  const Ints magnitude = codes & 0x7f;
  const Ints value = as_ints(as_floats(magnitude << 20) * 0x1p120F);
  const Ints nan = (magnitude == 0x7f) & 0x7fc00000;
  return as_floats(value | nan | (codes & 0x80) << 24);
}
/// kLanes neighbours as bf16, each in the low half of its lane.
RINGBOLT_SIMD Ints load_halved(const Bf16* p) { return load_halves(p); }
RINGBOLT_SIMD Ints load_halved(const E4m3* p) { return (as_ints(load_wide(p)) >> 16) & 0xffff; }

/// y[i] = f32 of x[i], i < n.
template <class In>
RINGBOLT_SIMD void copy_wide(const In* x, int n, float* y) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load_wide(x + i));
  for (; i < n; ++i) y[i] = widen(x[i]);
}

/// Words of a row of n elements along the depth, one behind the other.
template <class Product, class In>
RINGBOLT_SIMD void pack_row(const In* row, int n, float* words) {
  if constexpr (Product::kPerWord == 1) {
    copy_wide(row, n, words);
  } else if constexpr (sizeof(In) == sizeof(Bf16)) {
    __builtin_memcpy(words, row, static_cast<unsigned>(n) * sizeof(In));
  } else {
    for (int i = 0; i < n / 2; ++i) words[i] = pair_of(halved(row[2 * i]), halved(row[2 * i + 1]));
  }
}

/// The same with `step` words from one to the next: a column of B.
template <class Product, class In>
RINGBOLT_SIMD void pack_column(const In* row, int n, float* words, int64_t step) {
  if constexpr (Product::kPerWord == 1) {
    for (int i = 0; i < n; ++i) words[i * step] = widen(row[i]);
  } else {
    for (int i = 0; i < n / 2; ++i)
      words[i * step] = pair_of(halved(row[2 * i]), halved(row[2 * i + 1]));
  }
}

/// Rows of a matrix whose rows are the depth, that is B or a column-wise A: f32 rows as they are;
/// bf16 rows 2i and 2i + 1 woven into row i of pairs, with zeros where the last has no partner.
template <class Product, class In>
RINGBOLT_SIMD void pack_depth_rows(const In* rows, int64_t row_step, int n_rows, int n,
                                   float* words, int64_t step) {
  if constexpr (Product::kPerWord == 1) {
    for (int r = 0; r < n_rows; ++r) copy_wide(rows + r * row_step, n, words + r * step);
  } else {
    for (int r = 0; r < n_rows; r += 2) {
      const In* low = rows + r * row_step;
      const In* high = low + row_step;
      float* pairs = words + r / 2 * step;
      const bool both = r + 1 < n_rows;
      int i = 0;
      for (; both && i + kLanes <= n; i += kLanes) {
        store(pairs + i, as_floats(load_halved(low + i) | load_halved(high + i) << 16));
      }
      for (; i < n; ++i) pairs[i] = pair_of(halved(low[i]), both ? halved(high[i]) : Bf16{0});
    }
  }
}

#if defined(__AVX512BF16__)
/// Lane i holds the bf16 of low[i] and of high[i].
RINGBOLT_SIMD Floats pair_lanes(Floats low, Floats high) {
  alignas(64) static constexpr uint16_t kWeave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                      21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512bh both =
      _mm512_cvtne2ps_pbh(__builtin_bit_cast(__m512, high), __builtin_bit_cast(__m512, low));
  return __builtin_bit_cast(Floats, _mm512_permutexvar_epi16(_mm512_load_si512(kWeave),
                                                             __builtin_bit_cast(__m512i, both)));
}

/// Stores the bf16 of 16 values, in order, in 8 words.
RINGBOLT_SIMD void store_narrow(float* words, Floats x) {
  const __m256bh half = _mm512_cvtneps_pbh(__builtin_bit_cast(__m512, x));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), __builtin_bit_cast(__m256i, half));
}
#endif

}  // namespace
}  // namespace ringbolt::cpu
