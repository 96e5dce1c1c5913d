// Kernels of large matrix products C = A B: copying the operands into the order in which they are
// read, and the product of one block.
//
// A word is 32 bits along the summed dimension (the depth): one f32, or two neighbours in bf16. B
// is copied into panels of kPanelColumns columns, words (padded depth, kPanelColumns), so that a
// tile of C in registers reads it as one stream: each panel while the one before is multiplied, or
// all of them before. A is read as it is where its rows are contiguous; where it lies transposed it
// is copied into strips of kStripRows rows, words (depth, kStripRows), a stretch of the depth while
// the one before is multiplied with the first panel.
// product_kernels.cpp is compiled once for each instruction set; see core/cpu/simd.h.
#pragma once

#include <cstdint>

namespace ringbolt::cpu {

enum class Isa;  // core/cpu/isa.h, whose C++ library headers must stay outside of the kernels

constexpr int64_t kPanelColumns = 64;
constexpr int64_t kTileRows = 6;     ///< rows of A that are multiplied at once
constexpr int64_t kStripRows = 12;   ///< rows of A, two tiles, that are copied together
constexpr int64_t kMostTiles = 16;   ///< of a block that is copied
constexpr int64_t kDepthWords = 16;  ///< a panel's depth is a multiple of this: zeros behind B's

/// A (rows, depth) of which the transpose is stored.
struct TransposedA {
  const void* first;
  int64_t stride;    ///< elements from one step of the depth to the next
  int64_t depth;     ///< elements
  int64_t readable;  ///< rows from the first on that exist: those of the block, and others
};

/// B (depth, columns), or its transpose (columns, depth). Strides count elements.
struct SourceOfB {
  const void* first;
  int64_t stride;  ///< from a row of what is stored to the next
  bool transposed;
  int64_t depth;
  int64_t columns;
};

/// C (rows, columns) = A (rows, words) B (words, columns), or added to what is there.
struct ProductBlock {
  int64_t rows, words, columns;
  const char* a;           ///< the first word of the first row
  int64_t a_strip_stride;  ///< bytes from kStripRows rows to the next
  int64_t a_tile_stride;   ///< bytes from kTileRows rows to the next, within them
  int64_t a_row_stride;    ///< bytes from a row to the next, within them
  int64_t a_word_stride;   ///< bytes from a word to the next
  float* strips;  ///< where A is copied first, strip_words_for(words) words a strip; or null
  TransposedA transposed;  ///< where it is copied from
  float* b;                ///< panels
  SourceOfB source;        ///< what they are packed from first; none where they are packed already
  int64_t panel_words;     ///< from a panel to the next
  int64_t panels;          ///< that there is room for: behind the last comes the first; 0: for all
  char* c;
  int64_t c_stride;   ///< bytes from a row to the next
  const float* bias;  ///< one a column, added to every row; or none
  bool accumulate;    ///< C += …
};

/// Kernels for one type of A and B.
struct ProductKernels {
  /// A piece of a panel, kDepthWords words from the piece-th such on, of B's first columns.
  void (*pack)(const SourceOfB& b, int64_t piece, float* panel);
  void (*multiply_to_f32)(const ProductBlock& block);
  void (*multiply_to_bf16)(const ProductBlock& block);  ///< sums in f32, one rounding; of bf16 only
};

/// A strip's words and room behind them, which copying overwrites.
constexpr int64_t strip_words_for(int64_t words) { return words * kStripRows + 16; }

/// Null where the instruction set has no product of its own.
struct ProductKernelsOfIsa {
  const ProductKernels* f32 = nullptr;
  const ProductKernels* bf16 = nullptr;
};

/// From AVX-512 on; below it the library's are as good. Requires: this build and this machine have
/// `isa`.
ProductKernelsOfIsa product_kernels(Isa isa);

// Each compiled in a file of its own.
ProductKernelsOfIsa product_kernels_avx512();
ProductKernelsOfIsa product_kernels_avx512_bf16();

}  // namespace ringbolt::cpu
