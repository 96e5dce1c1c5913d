// Compiled once an instruction set, with RINGBOLT_ISA naming it. Only headers without shared inline
// functions here.
#include "core/cpu/product_kernels.h"

#include "core/base/bf16.h"
#include "core/cpu/product_operands.inl"
#include "core/cpu/simd.h"

namespace ringbolt::cpu {
namespace {

constexpr int kTileVectors = static_cast<int>(kPanelColumns) / kLanes;

/// A word of any type.
using Word = float __attribute__((may_alias, aligned(2)));

struct Sums {
  Floats of[kTileRows][kTileVectors];
};

/// Sums as rows of f32.
using PartOfTile = float[kTileRows][kPanelColumns];

// (`sums` itself stays in registers: the address sanitizer's stack, which does not align vectors,
// would get it.)
RINGBOLT_SIMD void store_sums(const Sums& sums, PartOfTile& part) {
#pragma GCC unroll 6
  for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) store(part[r] + v * kLanes, sums.of[r][v]);
  }
}

/// Where the words of a tile's rows are: rows[r] + w * step bytes.
struct TileOfA {
  const char* rows[kTileRows];
  int64_t step;
};

/// sums[r][n] = sum over words w of a[r][w] * panel[w][n], behind those that `before` has, or none.
/// beside(i) is done with each kDepthWords words.
template <class Product, class Beside>
RINGBOLT_SIMD void multiply_tile(const TileOfA& a, const float* panel, int64_t words,
                                 const PartOfTile* before, const Beside& beside, Sums& result) {
  Floats sums[kTileRows][kTileVectors];  // (registers: of `result` the compiler makes memory)
  const char* rows[kTileRows];
#pragma GCC unroll 6
  for (int r = 0; r < kTileRows; ++r) {
    rows[r] = a.rows[r];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v)
      sums[r][v] = before == nullptr ? Floats{} : load((*before)[r] + v * kLanes);
  }
  const int64_t step = a.step;
  int64_t offset = 0;
  for (int64_t first = 0; first < words; first += kDepthWords) {
    beside(first / kDepthWords);
    const float* end = panel + smaller_of(kDepthWords, words - first) * kPanelColumns;
    for (; panel != end; panel += kPanelColumns, offset += step) {
      Floats b[kTileVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) b[v] = load(panel + v * kLanes);
#pragma GCC unroll 6
      for (int r = 0; r < kTileRows; ++r) {
        const Floats x = broadcast(*reinterpret_cast<const Word*>(rows[r] + offset));
#pragma GCC unroll 4
        for (int v = 0; v < kTileVectors; ++v) sums[r][v] = Product::add(x, b[v], sums[r][v]);
      }
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
#if defined(__AVX512BF16__)
RINGBOLT_SIMD void store_sums(bf16* p, Floats x) {
  // (Denormals become zeros, as they do in the dot product.)
  const __m256bh rounded = _mm512_maskz_cvtneps_pbh(kAllLanes, __builtin_bit_cast(__m512, x));
  __builtin_memcpy(p, &rounded, sizeof rounded);
}
#endif

/// Where a tile of C goes, or the part of one that C has.
template <class C>
struct TileOfC {
  C* first;
  int64_t stride;
  int64_t rows;
  int64_t columns;
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

template <class C>
void store_part(const PartOfTile& sums, const TileOfC<C>& c) {
  for (int64_t r = 0; r < c.rows; ++r) {
    C* to = c.first + r * c.stride;
    for (int64_t i = 0; i < c.columns; ++i) {
      const float before = c.accumulate ? to_float(to[i]) : 0.0F;
      const float bias = c.bias != nullptr ? c.bias[i] : 0.0F;
      to[i] = from_float<C>(sums[r][i] + before + bias);
    }
  }
}

/// The lines of C that a tile of some words will write, asked for within three quarters of them.
template <class C>
class LinesOfC {
 public:
  LinesOfC(const TileOfC<C>& c, int64_t words)
      : first_(reinterpret_cast<const char*>(c.first)),
        stride_(c.stride * static_cast<int64_t>(sizeof(C))),
        lines_(c.rows * kPerRow),
        share_(divided_up(lines_ * 4 * kDepthWords, 3 * words)) {}

  // (As many each time, the last again at the end: loops that differ are foreseen badly.)
  RINGBOLT_SIMD void ask(const LinesOfC& c, int64_t i) {
    for (int64_t s = 0; s < c.share_; ++s) {
      const int64_t l = smaller_of(i * c.share_ + s, c.lines_ - 1);
      __builtin_prefetch(c.first_ + (l / kPerRow) * c.stride_ + (l % kPerRow) * kLine, 1);
    }
  }

 private:
  static constexpr int64_t kPerRow = kPanelColumns * static_cast<int64_t>(sizeof(C)) / kLine;

  const char* first_;
  int64_t stride_;
  int64_t lines_;
  int64_t share_;
};

/// Words [begin, end) of the depth.
struct Stretch {
  int64_t begin;
  int64_t end;
  int64_t words() const { return end - begin; }
};

/// The product of a block of A with panel after panel, tile after tile.
template <class Product, class T, class C>
class BlockProduct {
 public:
  explicit BlockProduct(const ProductBlock& block)
      : block_(block), tiles_(divided_up(block.rows, kTileRows)), source_(block.source) {}

  void operator()() {
    if (packs()) NextPanel<T>(source_, block_.b, block_.words, 1).pack_share(0);
    float* panel = block_.b;
    for (int64_t column = 0; column < block_.columns; column += kPanelColumns) {
      float* next = behind(panel);
      const bool packs_next = packs() && column + kPanelColumns < block_.columns;
      if (packs_next) drop_first_panel();
      const NextPanel<T> next_panel(source_, next, packs_next ? block_.words : 0, tiles_);
      const bool copies = column == 0 && block_.strips != nullptr;
      if (copies && multiply_while_copying(panel)) {
        for (int64_t tile = 0; tile < tiles_; ++tile) next_panel.pack_share(tile);
      } else {
        for (int64_t tile = 0; tile < tiles_; ++tile) {
          const Ahead other = column == 0 ? next_of_a(tile) : next_of_b(tile, next);
          multiply_whole(tile, column, panel, packs_next ? next_panel.next_share(tile) : other);
          next_panel.pack_share(tile);
        }
      }
      panel = next;
    }
  }

 private:
  bool packs() const { return source_.first != nullptr; }

  float* behind(float* panel) const {
    float* next = panel + block_.panel_words;
    return next == block_.b + block_.panels * block_.panel_words ? block_.b : next;
  }

  void drop_first_panel() {
    const int64_t step = source_.transposed ? source_.stride : 1;
    source_.first = static_cast<const T*>(source_.first) + kPanelColumns * step;
    source_.columns -= kPanelColumns;
  }

  /// The next tile of A, which the first panel is the first to read.
  Ahead next_of_a(int64_t tile) const {
    return {.first = first_of(smaller_of(tile + 1, tiles_ - 1)),
            .step = kLine,
            .rows = kTileRows,
            .row_stride = block_.a_row_stride,
            .lines = 1};
  }

  /// A share of the next panel of B, where it is packed already.
  Ahead next_of_b(int64_t tile, const float* next) const {
    const int64_t lines = divided_up(kPanelColumns * kDepthWords * 4 / kLine, tiles_);
    const int64_t share = lines * kLine * divided_up(block_.words, kDepthWords);
    return {.first = reinterpret_cast<const char*>(next) + tile * share,
            .step = lines * kLine,
            .rows = 1,
            .lines = lines};
  }

  const char* first_of(int64_t tile) const {
    constexpr int64_t kTiles = kStripRows / kTileRows;
    return block_.a + tile / kTiles * block_.a_strip_stride + tile % kTiles * block_.a_tile_stride;
  }

  TileOfA a(int64_t tile, int64_t word) const {
    const int64_t rows = smaller_of(kTileRows, block_.rows - tile * kTileRows);
    TileOfA a{{}, block_.a_word_stride};
    for (int64_t r = 0; r < kTileRows; ++r) {
      a.rows[r] = first_of(tile) + smaller_of(r, rows - 1) * block_.a_row_stride +
                  word * block_.a_word_stride;
    }
    return a;
  }

  TileOfC<C> c(int64_t tile, int64_t column) const {
    const int64_t row = tile * kTileRows;
    return {reinterpret_cast<C*>(block_.c + row * block_.c_stride) + column,
            block_.c_stride / static_cast<int64_t>(sizeof(C)),
            smaller_of(kTileRows, block_.rows - row),
            smaller_of(kPanelColumns, block_.columns - column),
            block_.bias == nullptr ? nullptr : block_.bias + column,
            block_.accumulate};
  }

  RINGBOLT_SIMD void store_whole(const Sums& sums, const TileOfC<C>& c) {
    if (c.rows == kTileRows && c.columns == kPanelColumns) return store_tile(sums, c);
    PartOfTile part;
    store_sums(sums, part);
    store_part(part, c);
  }

  void multiply_whole(int64_t tile, int64_t column, const float* panel, const Ahead& ahead) const {
    const TileOfC<C> to = c(tile, column);
    const LinesOfC<C> lines(to, block_.words);
    const bool far_a = block_.panels > 0;  // a block of all rows does not stay in the second level
    const Ahead next_a = next_of_a(tile);
    const auto beside = [&](int64_t i) __attribute__((always_inline)) {
      LinesOfC<C>::ask(lines, i);
      ask_for(ahead, i);
      if (!far_a) return;
#pragma GCC unroll 6
      for (int64_t r = 0; r < kTileRows; ++r)
        __builtin_prefetch(next_a.first + i * kLine + r * next_a.row_stride, 0, 2);
    };
    Sums sums;
    multiply_tile<Product>(a(tile, 0), panel, block_.words, nullptr, beside, sums);
    store_whole(sums, to);
  }

  /// The first panel, a stretch of the depth at a time while the next stretch of A is copied.
  /// False: A is copied, and nothing multiplied yet.
  bool multiply_while_copying(const float* panel) const {
    constexpr int64_t kFirst = 2 * kDepthWords;
    constexpr int64_t kOthers = 8 * kDepthWords;
    const CopiedStrips<T> copies(block_);
    if (!copies.are_inner()) {
      for (int64_t w = 0; w < block_.words; ++w) copies.copy_edge(w);
      return false;
    }
    PartOfTile parts[kMostTiles];
    Stretch now{0, smaller_of(kFirst, block_.words)};
    for (int64_t w = 0; w < now.end; ++w) copies.copy(w);
    while (now.words() > 0) {
      const Stretch next{now.end, smaller_of(now.end + kOthers, block_.words)};
      for (int64_t tile = 0; tile < tiles_; ++tile)
        multiply_stretch(tile, now, panel, parts[tile], copies, next);
      now = next;
    }
    return true;
  }

  void multiply_stretch(int64_t tile, const Stretch& now, const float* panel, PartOfTile& part,
                        const CopiedStrips<T>& copies, const Stretch& next) const {
    const TileOfC<C> to = c(tile, 0);
    const LinesOfC<C> lines(to, now.words());
    const bool last = now.end == block_.words;
    const int64_t turns = divided_up(now.words(), kDepthWords);
    const int64_t share = divided_up(next.words(), turns * tiles_);
    const auto beside = [&](int64_t i) __attribute__((always_inline)) {
      if (last) LinesOfC<C>::ask(lines, i);
      const int64_t first = next.begin + (tile * turns + i) * share;
      for (int64_t w = first; w < smaller_of(first + share, next.end); ++w) copies.copy(w);
    };
    Sums sums;
    multiply_tile<Product>(a(tile, now.begin), panel + now.begin * kPanelColumns, now.words(),
                           now.begin > 0 ? &part : nullptr, beside, sums);
    if (last) {
      store_whole(sums, to);
    } else {
      store_sums(sums, part);
    }
  }

  const ProductBlock& block_;
  int64_t tiles_;
  SourceOfB source_;
};

template <class Product, class T, class C>
void multiply(const ProductBlock& block) {
  BlockProduct<Product, T, C>{block}();
}

constexpr ProductKernels kF32{pack<float>, multiply<F32Product, float, float>, nullptr};
#if defined(__AVX512BF16__)
constexpr ProductKernels kBf16{pack<uint16_t>, multiply<Bf16Product, uint16_t, float>,
                               multiply<Bf16Product, uint16_t, bf16>};
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
