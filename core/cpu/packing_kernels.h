// Operands of large matrix products, copied into the order in which the product's kernel reads them.
//
// A word is 32 bits along the summed dimension (the depth): one f32, or two neighbours in bf16. A depth is padded to
// kDepthWords words, with zeros. packing_kernels.cpp is compiled once for each instruction set; see core/cpu/simd.h.
#pragma once

#include <cstdint>

namespace ringbolt::cpu {

enum class Isa;  // core/cpu/isa.h, whose C++ library headers must stay outside of the kernels

constexpr int64_t kPanelColumns = 64;
constexpr int64_t kDepthWords = 16;

/// Kernels for one element type. A panel is words (padded depth, kPanelColumns) of the second operand, zeros behind its
/// depth and its last column; panel_words counts all of them. Strides count elements.
struct PackingOfType {
  /// The first kDepthWords words of all panels of B (depth, columns), rows `stride` apart; panels `panel_words` apart.
  void (*pack_rows)(const void* b, int64_t stride, int64_t depth, int64_t columns, void* panels, int64_t panel_words);
  /// A whole panel from the transpose of B: (columns, depth). Requires: columns <= kPanelColumns.
  void (*pack_columns)(const void* b, int64_t stride, int64_t depth, int64_t columns, void* panel, int64_t panel_words);
  /// y (columns, kDepthWords words) = the transpose of x (depth, columns), or of its first kDepthWords words; rows
  /// `stride` and `y_stride` apart. Requires: rows of y are aligned to words.
  void (*transpose)(const void* x, int64_t stride, int64_t depth, int64_t columns, void* y, int64_t y_stride);
};

struct PackingKernels {
  PackingOfType f32;
  PackingOfType bf16;
};

/// Requires: this build and this machine have `isa`.
const PackingKernels& packing_kernels(Isa isa);

// Each compiled in a file of its own.
const PackingKernels& packing_kernels_generic();
const PackingKernels& packing_kernels_avx512();

}  // namespace ringbolt::cpu
