// Operands of large matrix products in the order in which a tile of C reads them: panels of B,
// tiles of A where it lies transposed (product_kernels.h).
//
// Included by product_kernels.cpp only.
#pragma once

#include "core/cpu/product_kernels.h"
#include "core/cpu/simd.h"

namespace ringbolt::cpu {
namespace {

constexpr int64_t kLine = 64;  // bytes of a cache line

constexpr int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t divided_up(int64_t n, int64_t parts) { return (n + parts - 1) / parts; }

template <class T>
constexpr int64_t kPerWord = 4 / static_cast<int64_t>(sizeof(T));

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

static_assert(kLanes == 16, "product_kernels.cpp is for AVX-512");

/// The same four lanes of each quarter; y's are numbered from kLanes.
template <int a, int b, int c, int d>
RINGBOLT_SIMD Floats of_quarters(Floats x, Floats y) {
  return __builtin_shufflevector(x, y, a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8, c + 8,
                                 d + 8, a + 12, b + 12, c + 12, d + 12);
}

/// Transposes blocks of 4 x 4 lanes of four rows.
RINGBOLT_SIMD void transpose_quarters(Floats& x0, Floats& x1, Floats& x2, Floats& x3) {
  const Floats low01 = of_quarters<0, 16, 1, 17>(x0, x1);
  const Floats high01 = of_quarters<2, 18, 3, 19>(x0, x1);
  const Floats low23 = of_quarters<0, 16, 1, 17>(x2, x3);
  const Floats high23 = of_quarters<2, 18, 3, 19>(x2, x3);
  x0 = of_quarters<0, 1, 16, 17>(low01, low23);
  x1 = of_quarters<2, 3, 18, 19>(low01, low23);
  x2 = of_quarters<0, 1, 16, 17>(high01, high23);
  x3 = of_quarters<2, 3, 18, 19>(high01, high23);
}

RINGBOLT_SIMD Floats even_quarters(Floats x, Floats y) {
  return __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}
RINGBOLT_SIMD Floats odd_quarters(Floats x, Floats y) {
  return __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

/// Transposes kLanes vectors: blocks of 4 x 4, then the blocks.
RINGBOLT_SIMD void transpose(Floats (&x)[kLanes]) {
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) transpose_quarters(x[i], x[i + 1], x[i + 2], x[i + 3]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Floats even_low = even_quarters(x[i], x[i + 4]);
    const Floats even_high = even_quarters(x[i + 8], x[i + 12]);
    const Floats odd_low = odd_quarters(x[i], x[i + 4]);
    const Floats odd_high = odd_quarters(x[i + 8], x[i + 12]);
    x[i] = even_quarters(even_low, even_high);
    x[i + 4] = even_quarters(odd_low, odd_high);
    x[i + 8] = odd_quarters(even_low, even_high);
    x[i + 12] = odd_quarters(odd_low, odd_high);
  }
}

template <class T>
void pack_from_rows(const SourceOfB& b, int64_t word, float* words) {
  for (int64_t w = 0; w < kDepthWords; ++w, words += kPanelColumns) {
    const int64_t row = (word + w) * kPerWord<T>;
    const T* from = static_cast<const T*>(b.first) + row * b.stride;
    for (int64_t c = 0; c < kPanelColumns; c += kLanes)
      store(words + c, across_depth(from + c, b.stride, b.depth - row, b.columns - c));
  }
}

/// kLanes words of each of kLanes columns, `stride` apart.
template <class T>
RINGBOLT_SIMD void pack_square(const T* columns, int64_t stride, float* words) {
  Floats block[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    __builtin_memcpy(&block[i], columns + i * stride, sizeof(Floats));
  transpose(block);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(words + i * kPanelColumns, block[i]);
}

/// The same where fewer columns, or columns of less depth, are there: zeros for the rest.
template <class T>
void pack_square_edge(const T* columns, int64_t stride, int64_t depth, int64_t n, float* words) {
  constexpr unsigned kDepth = kVectorBytes / sizeof(T);
  T part[kLanes][kDepth] = {};
  for (int64_t i = 0; i < smaller_of(n, kLanes); ++i) {
    for (int64_t d = 0; d < smaller_of(depth, kDepth); ++d) part[i][d] = columns[i * stride + d];
  }
  pack_square(part[0], kDepth, words);
}

template <class T>
void pack_from_columns(const SourceOfB& b, int64_t word, float* words) {
  for (int64_t w = 0; w < kDepthWords; w += kLanes) {
    const int64_t done = (word + w) * kPerWord<T>;
    const int64_t depth = b.depth - done;
    const T* from = static_cast<const T*>(b.first) + done;
    float* to = words + w * kPanelColumns;
    for (int64_t c = 0; c < kPanelColumns; c += kLanes) {
      if (c + kLanes <= b.columns && depth >= kLanes * kPerWord<T>) {
        pack_square(from + c * b.stride, b.stride, to + c);
      } else {
        pack_square_edge(from + c * b.stride, b.stride, depth, b.columns - c, to + c);
      }
    }
  }
}

template <class T>
void pack(const SourceOfB& b, int64_t piece, float* panel) {
  const int64_t word = piece * kDepthWords;
  (b.transposed ? pack_from_columns<T> : pack_from_rows<T>)(b, word, panel + word * kPanelColumns);
}

/// Cache lines asked for while a tile is multiplied. Beside each kDepthWords words of it: `lines`
/// of each of `rows` rows, `step` bytes behind those before, and as many of those that will be
/// written.
struct Ahead {
  const char* first = nullptr;
  int64_t step = 0;
  int64_t rows = 0;
  int64_t row_stride = 0;  // bytes
  int64_t lines = 0;
  const char* written = nullptr;  // contiguous
  int64_t written_lines = 0;
};

RINGBOLT_SIMD void ask_for(const Ahead& ahead, int64_t i) {
  for (int64_t l = i * ahead.written_lines; l < (i + 1) * ahead.written_lines; ++l)
    __builtin_prefetch(ahead.written + l * kLine, 1);
  const char* row = ahead.first + i * ahead.step;
  for (int64_t r = 0; r < ahead.rows; ++r, row += ahead.row_stride) {
    for (int64_t l = 0; l < ahead.lines; ++l) __builtin_prefetch(row + l * kLine, 0, 2);
  }
}

/// The panel behind the one that is multiplied: a share of it is packed behind each tile but the
/// first, whose time brings what the second packs.
template <class T>
class NextPanel {
 public:
  /// `source`: from this panel on.
  NextPanel(const SourceOfB& source, float* panel, int64_t words, int64_t tiles)
      : source_(source), panel_(panel), pieces_(divided_up(words, kDepthWords)), tiles_(tiles) {}

  void pack_share(int64_t tile) const {
    for (int64_t i = first(tile); i < first(tile + 1); ++i) pack<T>(source_, i, panel_);
  }

  /// What the share behind the next tile asks for.
  Ahead next_share(int64_t tile) const { return tile + 1 < tiles_ ? share(tile + 1) : Ahead{}; }

 private:
  Ahead share(int64_t tile) const {
    constexpr int64_t kSize = sizeof(T);
    const int64_t words = (first(tile + 1) - first(tile)) * kDepthWords;
    const int64_t done = first(tile) * kDepthWords * kPerWord<T>;
    const int64_t stride = source_.stride * kSize;
    const auto* from = static_cast<const char*>(source_.first);
    const auto* to =
        reinterpret_cast<const char*>(panel_ + first(tile) * kDepthWords * kPanelColumns);
    const int64_t to_lines = divided_up(words * kPanelColumns * 4 / kLine, pieces_);
    // Rows of what is stored, and of each so many bytes from the share's first.
    const bool t = source_.transposed;
    const int64_t rows = divided_up(t ? kPanelColumns : words * kPerWord<T>, pieces_);
    return {.first = from + done * (t ? kSize : stride),
            .step = rows * stride,
            .rows = rows,
            .row_stride = stride,
            .lines = (t ? words * 4 : kPanelColumns * kSize) / kLine,
            .written = to,
            .written_lines = to_lines};
  }

  /// Piece.
  int64_t first(int64_t tile) const {
    if (tiles_ == 1) return tile * pieces_;
    return tile == 0 ? 0 : (tile - 1) * pieces_ / (tiles_ - 1);
  }

  SourceOfB source_;
  float* panel_;
  int64_t pieces_;
  int64_t tiles_;
};

/// A copied from its transpose into strips, a word of all rows at a time: what is stored together
/// is read together, once.
template <class T>
class CopiedStrips {
 public:
  explicit CopiedStrips(const ProductBlock& block)
      : from_(static_cast<const T*>(block.transposed.first)),
        stride_(block.transposed.stride),
        depth_(block.transposed.depth),
        readable_(block.transposed.readable),
        rows_(block.rows),
        to_(block.strips),
        strip_words_(strip_words_for(block.words)),
        whole_words_(block.words * kPerWord<T> == block.transposed.depth) {}

  /// Nothing that is read lies outside of A.
  bool are_inner() const {
    const int64_t last = (divided_up(rows_, kStripRows) - 1) * kStripRows;
    return whole_words_ && last + kRead <= readable_;
  }

  /// Requires: are_inner(). (Without a branch that calls a function: sums in registers are beside
  /// this.)
  void copy(int64_t word) const {
    constexpr int64_t kWordsAhead = 16;
    const T* x = from_ + word * kPerWord<T> * stride_;
    for (int64_t i = 0; i < kPerWord<T>; ++i) {
      const auto* ahead =
          reinterpret_cast<const char*>(x + (kWordsAhead * kPerWord<T> + i) * stride_);
      for (int64_t byte = 0; byte < rows_ * kSize + kLine; byte += kLine)
        __builtin_prefetch(ahead + byte);
    }
    each_strip(word, [&](int64_t row, float* to) {
      store(to, weave(x + row, x + (kPerWord<T> - 1) * stride_ + row));
    });
  }

  /// The same for any A: zeros outside of it.
  void copy_edge(int64_t word) const {
    const int64_t done = word * kPerWord<T>;
    const T* x = from_ + done * stride_;
    each_strip(word, [&](int64_t row, float* to) {
      store(to, across_depth(x + row, stride_, depth_ - done, readable_ - row));
    });
  }

 private:
  static constexpr int64_t kSize = sizeof(T);
  static constexpr int64_t kRead = divided_up(kStripRows, kLanes) * kLanes;  // rows of a strip

  /// More rows are written than a strip has: those too many are overwritten by the next word's.
  template <class Copy>
  void each_strip(int64_t word, const Copy& copy) const {
    float* to = to_ + word * kStripRows;
    for (int64_t r = 0; r < rows_; r += kStripRows, to += strip_words_) {
      for (int64_t i = 0; i < kStripRows; i += kLanes) copy(r + i, to + i);
    }
  }

  const T* from_;
  int64_t stride_;
  int64_t depth_;
  int64_t readable_;  // rows
  int64_t rows_;
  float* to_;
  int64_t strip_words_;  // from a strip to the next
  bool whole_words_;
};

}  // namespace
}  // namespace ringbolt::cpu
