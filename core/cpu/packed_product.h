// Large matrix products of the CPU backend by kernels of our own (product_kernels.h).
//
// B is packed into panels, some MiB of them at a time, which all rows of A then pass: C is cut into
// blocks of rows and groups of panels, one a thread at a time. Each thread packs panels of its own
// while it multiplies them with the first block, one panel ahead; the other blocks find them
// packed. Where B is wide and A small, there is one block, and the panels of a thread stay its own.
// A block of A stays in the second cache level while the panels of its group come from the third.
// What a thread reads or writes next is asked for while it computes. Every element of C is summed
// along the depth in one order, so that neither the cuts nor the number of threads show in the
// result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>

#include "core/backend/backend.h"
#include "core/cpu/allocator.h"
#include "core/cpu/product_kernels.h"

namespace ringbolt::cpu {

/// How a matrix operand lies: rows x columns with the strides (in elements) of the (perhaps
/// transposed) view.
struct Operand {
  int64_t rows;
  int64_t columns;
  int64_t row_stride;
  int64_t column_stride;
  DType dtype;

  static Operand of(ConstView x, Transpose transpose);
  bool lies_transposed() const { return column_stride != 1; }
  auto key() const { return std::tie(rows, columns, row_stride, column_stride, dtype); }
};

/// c = a b + bias, or c += a b + bias. Operands fit together, c's rows are contiguous.
struct Product {
  Operand a, b, c;
  const std::byte* a_bytes;
  const std::byte* b_bytes;
  std::byte* c_bytes;
  Update update;
  std::optional<ConstView> bias;
};

/// Whether packing pays: of fewer rows than this asks for, the library was measured to be faster.
bool is_large(const Product& product);

/// Requires: is_large(product). `kernels` are those of a's and b's type; `allocator` lends the
/// panels.
void packed_product(const ProductKernels& kernels, Allocator& allocator, const Product& product);

/// What packed_product borrows of the allocator, at most, for a product (rows, depth) x (depth,
/// columns); 0 if it is not large.
int64_t packed_product_bytes(int64_t rows, int64_t depth, int64_t columns, DType dtype);

}  // namespace ringbolt::cpu
