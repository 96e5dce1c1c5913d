#include "tests/support/reference/linear.h"

namespace ringbolt::reference {

namespace {

Values transposed(const Values& x, int64_t rows, int64_t columns) {
  Values y = zeros(columns * rows);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) row(y, c, rows)[r] = row(x, r, columns)[c];
  }
  return y;
}

}  // namespace

Values matmul(const Values& a, Transpose transpose_a, const Values& b, Transpose transpose_b,
              int64_t m, int64_t inner, int64_t n) {
  if (transpose_b == Transpose::yes)
    return matmul(a, transpose_a, transposed(b, n, inner), Transpose::no, m, inner, n);
  Values c = zeros(m * n);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t k = 0; k < inner; ++k) {
      const double a_ik =
          transpose_a == Transpose::yes ? a.data()[k * m + i] : a.data()[i * inner + k];
      add_scaled(a_ik, row(b, k, n), row(c, i, n), n);
    }
  }
  return c;
}

Values linear_forward(const Values& x, const Values& weight, const Values& bias, int64_t tokens,
                      int64_t in, int64_t out) {
  Values y = matmul(x, Transpose::no, weight, Transpose::yes, tokens, in, out);
  if (bias.empty()) return y;
  for (int64_t t = 0; t < tokens; ++t) add_scaled(1.0, bias.data(), row(y, t, out), out);
  return y;
}

LinearGradients linear_backward(const Values& dy, const Values& x, const Values& weight,
                                int64_t tokens, int64_t in, int64_t out) {
  LinearGradients g;
  g.dx = matmul(dy, Transpose::no, weight, Transpose::no, tokens, out, in);
  g.dweight = matmul(dy, Transpose::yes, x, Transpose::no, out, tokens, in);
  g.dbias = zeros(out);
  for (int64_t t = 0; t < tokens; ++t) add_scaled(1.0, row(dy, t, out), g.dbias.data(), out);
  return g;
}

Values embedding_forward(const Values& table, std::span<const int32_t> ids, int64_t hidden) {
  Values y;
  for (int32_t id : ids) y.insert(y.end(), row(table, id, hidden), row(table, id, hidden) + hidden);
  return y;
}

Values embedding_backward(const Values& dy, std::span<const int32_t> ids, int64_t vocab,
                          int64_t hidden) {
  Values dtable = zeros(vocab * hidden);
  for (size_t t = 0; t < ids.size(); ++t) {
    add_scaled(1.0, row(dy, static_cast<int64_t>(t), hidden), row(dtable, ids[t], hidden), hidden);
  }
  return dtable;
}

}  // namespace ringbolt::reference
