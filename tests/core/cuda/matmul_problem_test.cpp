// A column-major product as cuBLASLt defines it, run on what matmul_problem() says, is the
// row-major product asked for.
#include "core/cuda/matmul_problem.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "tests/support/random_values.h"
#include "tests/support/reference/linear.h"

namespace ringbolt::cuda {
namespace {

using namespace testing_support;
using reference::Values;

/// Element (row, column) of a column-major matrix.
const float& at(const float* data, const ColumnMajor& x, int64_t row, int64_t column) {
  EXPECT_TRUE(row < x.rows && column < x.columns);
  EXPECT_GE(x.stride, x.rows) << "cuBLASLt's condition";
  return data[row + column * x.stride];
}

/// result = op(left) op(right), with cuBLASLt's meaning of each field.
void column_major_product(const MatmulProblem& p, const float* left, const float* right,
                          float* result) {
  for (int64_t i = 0; i < p.result.rows; ++i) {
    for (int64_t j = 0; j < p.result.columns; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < p.inner(); ++k) {
        const float x = p.transpose_left ? at(left, p.left, k, i) : at(left, p.left, i, k);
        const float y = p.transpose_right ? at(right, p.right, j, k) : at(right, p.right, k, j);
        sum += x * y;
      }
      result[i + j * p.result.stride] = sum;
    }
  }
}

/// (rows, columns) with `padding` elements between rows.
struct Matrix {
  std::vector<float> data;
  Shape shape;
  int64_t stride;

  Matrix(const Values& values, int64_t rows, int64_t columns, int64_t padding)
      : data(static_cast<size_t>(rows * (columns + padding))),
        shape{rows, columns},
        stride(columns + padding) {
    for (int64_t i = 0; i < rows * columns; ++i) {
      data[static_cast<size_t>(i / columns * stride + i % columns)] =
          static_cast<float>(values[static_cast<size_t>(i)]);
    }
  }
  View view() { return {reinterpret_cast<std::byte*>(data.data()), DType::f32, shape, stride}; }
};

TEST(MatmulProblem, IsTheRowMajorProductForEveryTransposeAndStride) {
  constexpr int64_t m = 5, inner = 7, n = 3;
  for (const Transpose ta : {Transpose::no, Transpose::yes}) {
    for (const Transpose tb : {Transpose::no, Transpose::yes}) {
      for (const int64_t padding : {0, 2}) {
        const Values a = random_values(1, m * inner);
        const Values b = random_values(2, inner * n);
        Matrix ma =
            ta == Transpose::yes ? Matrix(a, inner, m, padding) : Matrix(a, m, inner, padding);
        Matrix mb =
            tb == Transpose::yes ? Matrix(b, n, inner, padding) : Matrix(b, inner, n, padding);
        Matrix mc(Values(m * n, 0.0), m, n, padding);
        const MatmulProblem p = matmul_problem(ma.view(), ta, mb.view(), tb, mc.view(),
                                               Update::overwrite, std::nullopt);
        column_major_product(p, mb.data.data(), ma.data.data(), mc.data.data());
        const Values expected = reference::matmul(a, ta, b, tb, m, inner, n);
        for (int64_t i = 0; i < m * n; ++i) {
          EXPECT_NEAR(static_cast<double>(mc.data[static_cast<size_t>(i / n * mc.stride + i % n)]),
                      expected[static_cast<size_t>(i)], 1e-6);
        }
      }
    }
  }
}

TEST(MatmulProblem, KnowsTheAlignmentThatAllRowsHave) {
  alignas(256) static std::byte memory[4096];
  const View a(memory, DType::bf16, {8, 64}, 64);
  const View odd(memory + 2, DType::bf16, {8, 64}, 64);
  const View strided(memory, DType::bf16, {8, 64}, 68);
  const View b(memory, DType::bf16, {64, 8});
  const View c(memory, DType::f32, {8, 8});
  const auto alignment = [&](ConstView x) {
    return matmul_problem(x, Transpose::no, b, Transpose::no, c, Update::overwrite, std::nullopt)
        .right.alignment;
  };
  EXPECT_EQ(alignment(a), 128);
  EXPECT_EQ(alignment(odd), 2);
  EXPECT_EQ(alignment(strided), 8);
}

TEST(MatmulProblem, RefusesWhatDoesNotGoTogether) {
  std::vector<float> data(64);
  const auto view = [&](Shape shape) { return View::of<float>(data.data(), shape); };
  const auto make = [&](Shape a, Shape b, Shape c) {
    return matmul_problem(view(a), Transpose::no, view(b), Transpose::no, view(c),
                          Update::overwrite, std::nullopt);
  };
  EXPECT_THROW(make({2, 3}, {4, 5}, {2, 5}), std::logic_error);
  EXPECT_THROW(make({2, 3}, {3, 5}, {2, 4}), std::logic_error);
  EXPECT_NO_THROW(make({2, 3}, {3, 5}, {2, 5}));
}

}  // namespace
}  // namespace ringbolt::cuda
