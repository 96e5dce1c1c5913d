// Reference of matrix products, biases and the embedding.
#pragma once

#include <span>

#include "core/backend/backend.h"
#include "tests/support/reference/values.h"

namespace ringbolt::reference {

/// (m, n) = op(a) (m, inner) * op(b) (inner, n); a transposed operand is stored (inner, m) or (n,
/// inner).
Values matmul(const Values& a, Transpose transpose_a, const Values& b, Transpose transpose_b,
              int64_t m, int64_t inner, int64_t n);

/// y (T, out) = x (T, in) * weight (out, in)^T [+ bias (out)]: a layer as Hugging Face stores it.
/// `bias` may be empty.
Values linear_forward(const Values& x, const Values& weight, const Values& bias, int64_t tokens,
                      int64_t in, int64_t out);

struct LinearGradients {
  Values dx;       ///< (T, in)
  Values dweight;  ///< (out, in)
  Values dbias;    ///< (out)
};
LinearGradients linear_backward(const Values& dy, const Values& x, const Values& weight,
                                int64_t tokens, int64_t in, int64_t out);

/// y (T, E) = rows `ids` of table (V, E).
Values embedding_forward(const Values& table, std::span<const int32_t> ids, int64_t hidden);
/// dtable (V, E).
Values embedding_backward(const Values& dy, std::span<const int32_t> ids, int64_t vocab,
                          int64_t hidden);

}  // namespace ringbolt::reference
