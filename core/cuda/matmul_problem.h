// A row-major product written down as cuBLASLt wants it. Apart from the library, so that the CPU
// tests prove the algebra.
//
// cuBLASLt is column-major, and a row-major matrix is its transpose seen column-major with the same
// stride. So C (M, N) = op(A) op(B) becomes C^T (N, M) = op(B)^T op(A)^T: the operands change
// places, and each is transposed in cuBLASLt's eyes exactly when it is in ours.
#pragma once

#include <cstdint>
#include <optional>
#include <tuple>

#include "core/backend/backend.h"

namespace ringbolt::cuda {

/// A matrix in column-major terms.
struct ColumnMajor {
  int64_t rows;
  int64_t columns;
  int64_t stride;  ///< elements from column to column
  DType dtype;
  int alignment;  ///< bytes that address and stride are multiples of, at most 256

  auto key() const { return std::tie(rows, columns, stride, dtype, alignment); }
};

struct MatmulProblem {
  ColumnMajor left;  ///< our b
  bool transpose_left;
  ColumnMajor right;  ///< our a
  bool transpose_right;
  ColumnMajor result;
  Update update;
  std::optional<DType> bias;  ///< (N), along a column of the result

  int64_t inner() const { return transpose_left ? left.rows : left.columns; }
  auto key() const {
    return std::tuple_cat(left.key(), right.key(), result.key(),
                          std::make_tuple(transpose_left, transpose_right, update, bias));
  }
  friend bool operator<(const MatmulProblem& x, const MatmulProblem& y) {
    return x.key() < y.key();
  }
};

/// Throws: std::logic_error where shapes or types do not go together.
MatmulProblem matmul_problem(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b,
                             ConstView c, Update update, std::optional<ConstView> bias);

}  // namespace ringbolt::cuda
