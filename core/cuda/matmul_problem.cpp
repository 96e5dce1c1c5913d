#include "core/cuda/matmul_problem.h"

#include <stdexcept>

#include "core/base/error.h"

namespace ringbolt::cuda {
namespace {

ColumnMajor column_major(ConstView x) {
  const int64_t stride = x.rows() <= 1 ? x.row_elements() : x.row_stride();
  const auto address = reinterpret_cast<uint64_t>(x.bytes());
  const uint64_t multiples = address | static_cast<uint64_t>(stride * size_of(x.dtype())) | 256;
  const auto alignment = static_cast<int>(multiples & (~multiples + 1));  // the lowest bit
  return {x.row_elements(), x.rows(), stride, x.dtype(), alignment};
}

int64_t rows_of(ConstView x, Transpose transpose) {
  return transpose == Transpose::yes ? x.row_elements() : x.rows();
}
int64_t columns_of(ConstView x, Transpose transpose) {
  return transpose == Transpose::yes ? x.rows() : x.row_elements();
}

}  // namespace

MatmulProblem matmul_problem(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b,
                             ConstView c, Update update, std::optional<ConstView> bias) {
  const int64_t m = rows_of(a, transpose_a);
  const int64_t inner = columns_of(a, transpose_a);
  const int64_t n = columns_of(b, transpose_b);
  if (inner != rows_of(b, transpose_b) || m != c.rows() || n != c.row_elements()) {
    throw std::logic_error(concat("matmul: (", m, ", ", inner, ") x (", rows_of(b, transpose_b),
                                  ", ", n, ") is not (", c.rows(), ", ", c.row_elements(), ")"));
  }
  if (a.dtype() != b.dtype() || (c.dtype() != a.dtype() && c.dtype() != DType::f32)) {
    throw std::logic_error("matmul: operand types do not go together");
  }
  return {column_major(b),
          transpose_b == Transpose::yes,
          column_major(a),
          transpose_a == Transpose::yes,
          column_major(c),
          update,
          bias ? std::optional<DType>(bias->dtype()) : std::nullopt};
}

}  // namespace ringbolt::cuda
