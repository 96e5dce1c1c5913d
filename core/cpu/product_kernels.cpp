// Compiled once an instruction set, with RINGBOLT_ISA naming it. Only headers without shared inline
// functions here.
#include "core/cpu/product_kernels.h"

#include "core/base/bf16.h"
#include "core/cpu/simd.h"

namespace ringbolt::cpu {
namespace {

constexpr int kTileVectors = static_cast<int>(kPanelColumns) / kLanes;

constexpr int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }

template <class T>
constexpr int64_t kPerWord = 4 / static_cast<int64_t>(sizeof(T));

/// A vector of words along the depth, from one row; zeros behind its `n` elements.
template <class T>
RINGBOLT_SIMD Floats along_depth(const T* row, int64_t n) {
  Floats words{};
  if (n >= kLanes * kPerWord<T>) {
    __builtin_memcpy(&words, row, sizeof words);
  } else if (n > 0) {
    __builtin_memcpy(&words, row, static_cast<unsigned>(n) * sizeof(T));
  }
  return words;
}

RINGBOLT_SIMD Floats weave(const float* row, const float* /*none*/) { return load(row); }
RINGBOLT_SIMD Floats weave(const uint16_t* low, const uint16_t* high) {
  return as_floats(load_halves(low) | load_halves(high) << 16);
}

/// A word of each of kLanes columns, from kPerWord rows `stride` apart; zeros outside of (rows,
/// columns).
template <class T>
RINGBOLT_SIMD Floats across_depth(const T* x, int64_t stride, int64_t rows, int64_t columns) {
  if (rows >= kPerWord<T> && columns >= kLanes) return weave(x, x + stride);
  T part[2][kLanes] = {};
  for (int64_t r = 0; r < smaller_of(rows, kPerWord<T>); ++r) {
    for (int64_t c = 0; c < smaller_of(columns, kLanes); ++c) part[r][c] = x[r * stride + c];
  }
  return weave(part[0], part[1]);
}

/// x and y interleaved: their lower halves, and their upper halves.
RINGBOLT_SIMD Floats interleave_low(Floats x, Floats y) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#else
  return __builtin_shufflevector(x, y, 0, 4, 1, 5);
#endif
}
RINGBOLT_SIMD Floats interleave_high(Floats x, Floats y) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
#else
  return __builtin_shufflevector(x, y, 2, 6, 3, 7);
#endif
}

/// Transposes kLanes vectors: in each of log2(kLanes) rounds vector i and vector i + kLanes / 2 are
/// interleaved.
RINGBOLT_SIMD void transpose(Floats (&x)[kLanes]) {
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
    Floats y[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      y[2 * i] = interleave_low(x[i], x[i + kLanes / 2]);
      y[2 * i + 1] = interleave_high(x[i], x[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
}

template <class T>
void pack_rows(const void* b, int64_t stride, int64_t depth, int64_t columns, float* panels,
               int64_t panel_words) {
  const auto* rows = static_cast<const T*>(b);
  for (int64_t c = 0; c < columns; c += kPanelColumns, panels += panel_words) {
    for (int64_t w = 0; w < kDepthWords; ++w) {
      const int64_t row = w * kPerWord<T>;
      for (int64_t i = 0; i < kPanelColumns; i += kLanes) {
        store(panels + w * kPanelColumns + i,
              across_depth(rows + row * stride + c + i, stride, depth - row, columns - c - i));
      }
    }
  }
}

template <class T>
void pack_columns(const void* b, int64_t stride, int64_t depth, int64_t columns, float* panel,
                  int64_t panel_words) {
  for (int64_t c = 0; c < kPanelColumns; c += kLanes) {
    const T* row = static_cast<const T*>(b) + c * stride;
    for (int64_t w = 0; w < panel_words / kPanelColumns; w += kLanes) {
      const int64_t done = w * kPerWord<T>;
      Floats block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        block[i] = along_depth(row + i * stride + done, c + i < columns ? depth - done : 0);
      }
      transpose(block);
      float* words = panel + w * kPanelColumns + c;
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(words + i * kPanelColumns, block[i]);
    }
  }
}

using UnalignedEight = float __attribute__((vector_size(32), aligned(4), may_alias));
using UnalignedEightHalves = uint16_t __attribute__((vector_size(16), aligned(2), may_alias));
using EightInts = int32_t __attribute__((vector_size(32)));
using UnalignedEightInts = int32_t __attribute__((vector_size(32), aligned(4), may_alias));

/// A word of each of 8 neighbours, from a row of A's transpose, or from two.
RINGBOLT_SIMD void weave_eight(const float* row, const float* /*none*/, float* words) {
  *reinterpret_cast<UnalignedEight*>(words) = *reinterpret_cast<const UnalignedEight*>(row);
}
RINGBOLT_SIMD void weave_eight(const uint16_t* low, const uint16_t* high, float* words) {
  const auto l =
      __builtin_convertvector(*reinterpret_cast<const UnalignedEightHalves*>(low), EightInts);
  const auto h =
      __builtin_convertvector(*reinterpret_cast<const UnalignedEightHalves*>(high), EightInts);
  *reinterpret_cast<UnalignedEightInts*>(words) = l | h << 16;
}

/// The same where fewer than 8 columns, or fewer rows than a word has, are there: zeros for the
/// rest.
template <class T>
void weave_edge(const T* x, int64_t stride, int64_t rows, int64_t columns, float* words) {
  T part[2][8] = {};
  for (int64_t r = 0; r < smaller_of(rows, kPerWord<T>); ++r) {
    for (int64_t c = 0; c < smaller_of(columns, 8); ++c) part[r][c] = x[r * stride + c];
  }
  weave_eight(part[0], part[1], words);
}

/// A tile that is copied from the transpose of A.
template <class T>
struct TileCopy {
  const T* from;
  int64_t stride;
  float* to;

  /// All words, also where they end within one or fewer than 8 rows are there.
  void edge(int64_t depth, int64_t rows) const {
    float* words = to;
    const T* x = from;
    for (int64_t d = 0; d < depth; d += kPerWord<T>, x += kPerWord<T> * stride, words += kTileRows)
      weave_edge(x, stride, depth - d, rows, words);
  }
};

/// One word of its rows. 8 rows are written where 6 belong: the two too many are overwritten by the
/// next word's.
template <class T>
RINGBOLT_SIMD void copy_word(const TileCopy<T>& tile, int64_t word) {
  constexpr int64_t kAhead = 64;  // words
  const T* x = tile.from + word * kPerWord<T> * tile.stride;
#pragma GCC unroll 2
  for (int64_t i = 0; i < kPerWord<T>; ++i)
    __builtin_prefetch(x + (kAhead * kPerWord<T> + i) * tile.stride + 7);
  weave_eight(x, x + (kPerWord<T> - 1) * tile.stride, tile.to + word * kTileRows);
}

struct NoCopy {};
RINGBOLT_SIMD void copy_word(const NoCopy&, int64_t) {}

/// A word of any type.
using Word = float __attribute__((may_alias, aligned(2)));

struct Sums {
  Floats of[kTileRows][kTileVectors];
};

/// Where the words of a tile's rows are: rows[r] + w * step bytes.
struct TileOfA {
  const char* rows[kTileRows];
  int64_t step;
};

/// sums[r][n] = sum over words w of a[r][w] * panel[w][n]; copies a word beside each.
template <class Product, class Copy>
RINGBOLT_SIMD void multiply_tile(const TileOfA& a, const float* panel, int64_t words,
                                 const Copy& copy, Sums& result) {
  Floats sums[kTileRows][kTileVectors];  // (registers: of `result` the compiler makes memory)
  const char* rows[kTileRows];
#pragma GCC unroll 6
  for (int r = 0; r < kTileRows; ++r) {
    rows[r] = a.rows[r];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) sums[r][v] = Floats{};
  }
  const int64_t step = a.step;
  for (int64_t w = 0; w < words; ++w, panel += kPanelColumns) {
    Floats b[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) b[v] = load(panel + v * kLanes);
    copy_word(copy, w);
#pragma GCC unroll 6
    for (int r = 0; r < kTileRows; ++r) {
      const Floats x = broadcast(*reinterpret_cast<const Word*>(rows[r] + w * step));
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) sums[r][v] = Product::add(x, b[v], sums[r][v]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) result.of[r][v] = sums[r][v];
  }
}

RINGBOLT_SIMD Floats load_sums(const float* p) { return load(p); }
RINGBOLT_SIMD Floats load_sums(const bf16* p) { return as_floats(load_halves(p) << 16); }
RINGBOLT_SIMD void store_sums(float* p, Floats x) { store(p, x); }
RINGBOLT_SIMD void store_sums(bf16* p, Floats x) {
  const Ints bits = as_ints(x);
  const Ints rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const Ints quiet = bits | 0x400000;
  const Ints result = (x == x ? rounded : quiet) >> 16;
  *reinterpret_cast<UnalignedHalves*>(p) = __builtin_convertvector(result, Halves);
}

/// Where a tile of C goes.
template <class C>
struct TileOfC {
  C* first;
  int64_t stride;
  const float* bias;
  bool accumulate;
};

template <class C>
RINGBOLT_SIMD void store_tile(const Sums& sums, const TileOfC<C>& c) {
#pragma GCC unroll 6
  for (int r = 0; r < kTileRows; ++r) {
    C* row = c.first + r * c.stride;
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      Floats sum = sums.of[r][v];
      if (c.accumulate) sum += load_sums(row + v * kLanes);
      if (c.bias != nullptr) sum += load(c.bias + v * kLanes);
      store_sums(row + v * kLanes, sum);
    }
  }
}

/// Sums as rows of f32.
using PartOfTile = float[kTileRows][kPanelColumns];

/// The same for a tile that C has only a part of.
template <class C>
void store_part(const PartOfTile& sums, const TileOfC<C>& c, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    C* to = c.first + r * c.stride;
    for (int64_t i = 0; i < columns; ++i) {
      const float before = c.accumulate ? to_float(to[i]) : 0.0F;
      const float bias = c.bias != nullptr ? c.bias[i] : 0.0F;
      to[i] = from_float<C>(sums[r][i] + before + bias);
    }
  }
}

/// The lines of C that a tile will write.
template <class C>
RINGBOLT_SIMD void ask_for(const TileOfC<C>& c, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
    const char* row = reinterpret_cast<const char*>(c.first + r * c.stride);
    for (int64_t i = 0; i < kPanelColumns * static_cast<int64_t>(sizeof(C)); i += 64)
      __builtin_prefetch(row + i, 1);
  }
}

template <class T>
TileCopy<T> copy_of_tile(const ProductBlock& block, int64_t tile) {
  return {static_cast<const T*>(block.transposed.first) + tile * kTileRows, block.transposed.stride,
          block.tiles + tile * tile_words_for(block.words)};
}

/// All words of a tile can be copied without a look at edges.
template <class T>
bool is_inner(const ProductBlock& block, int64_t tile) {
  return tile * kTileRows + 8 <= block.transposed.readable &&
         block.words * kPerWord<T> == block.transposed.depth;
}

template <class T>
void copy_tile(const ProductBlock& block, int64_t tile) {
  const TileCopy<T> copy = copy_of_tile<T>(block, tile);
  if (!is_inner<T>(block, tile))
    return copy.edge(block.transposed.depth, block.rows - tile * kTileRows);
  for (int64_t w = 0; w < block.words; ++w) copy_word(copy, w);
}

/// The product of one tile of A with one panel.
template <class Product, class C, class Copy>
void multiply(const ProductBlock& block, int64_t tile, int64_t column, const float* panel,
              const Copy& copy) {
  const int64_t row = tile * kTileRows;
  const int64_t rows = smaller_of(kTileRows, block.rows - row);
  const int64_t columns = smaller_of(kPanelColumns, block.columns - column);
  TileOfA a{{}, block.a_word_stride};
  for (int64_t r = 0; r < kTileRows; ++r)
    a.rows[r] = block.a + tile * block.a_tile_stride + smaller_of(r, rows - 1) * block.a_row_stride;
  const TileOfC<C> c{reinterpret_cast<C*>(block.c + row * block.c_stride) + column,
                     block.c_stride / static_cast<int64_t>(sizeof(C)),
                     block.bias == nullptr ? nullptr : block.bias + column, block.accumulate};
  ask_for(c, rows);
  Sums sums;
  multiply_tile<Product>(a, panel, block.words, copy, sums);
  if (rows == kTileRows && columns == kPanelColumns) return store_tile(sums, c);
  // (`sums` itself stays in registers: the address sanitizer's stack, which does not align vectors,
  // would get it.)
  PartOfTile part;
#pragma GCC unroll 6
  for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) store(part[r] + v * kLanes, sums.of[r][v]);
  }
  store_part(part, c, rows, columns);
}

template <class Product, class T, class C>
void multiply(const ProductBlock& block) {
  const int64_t tiles = (block.rows + kTileRows - 1) / kTileRows;
  bool copies = block.tiles != nullptr;
  if (copies) copy_tile<T>(block, 0);
  const float* panel = block.b;
  for (int64_t column = 0; column < block.columns;
       column += kPanelColumns, panel += block.panel_words) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t next = tile + 1;
      if (copies && next < tiles && is_inner<T>(block, next)) {
        multiply<Product, C>(block, tile, column, panel, copy_of_tile<T>(block, next));
      } else {
        if (copies && next < tiles) copy_tile<T>(block, next);
        multiply<Product, C>(block, tile, column, panel, NoCopy{});
      }
    }
    copies = false;
  }
}

template <class Product, class T>
constexpr ProductKernels kernels_of() {
  return {pack_rows<T>, pack_columns<T>, multiply<Product, T, float>, multiply<Product, T, bf16>};
}

constexpr ProductKernels kF32 = kernels_of<F32Product, float>();
#if defined(__AVX512BF16__)
constexpr ProductKernels kBf16 = kernels_of<Bf16Product, uint16_t>();
#endif

}  // namespace

#define RINGBOLT_JOIN_(a, b) a##b
#define RINGBOLT_JOIN(a, b) RINGBOLT_JOIN_(a, b)

ProductKernelsOfIsa RINGBOLT_JOIN(product_kernels_, RINGBOLT_ISA)() {
#if defined(__AVX512BF16__)
  return {&kF32, &kBf16};
#else
  return {&kF32, nullptr};
#endif
}

}  // namespace ringbolt::cpu
