#include "tests/support/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ringbolt::reference {
namespace {

/// softmax over `keys` of scale * q.k, and the logarithm of its denominator.
struct Softmax {
  Values probabilities;
  double lse = -std::numeric_limits<double>::infinity();
};

Softmax softmax(const double* q, const Values& k, const std::vector<int64_t>& keys, int64_t kv_head,
                double scale, const AttentionShape& shape) {
  Softmax result;
  if (keys.empty()) return result;
  for (int64_t j : keys) {
    result.probabilities.push_back(
        scale * dot(q, row(k, j * shape.kv_heads + kv_head, shape.head_dim), shape.head_dim));
  }
  const double largest =
      *std::max_element(result.probabilities.begin(), result.probabilities.end());
  double denominator = 0;
  for (double logit : result.probabilities) denominator += std::exp(logit - largest);
  result.lse = largest + std::log(denominator);
  for (double& p : result.probabilities) p = std::exp(p - largest) / denominator;
  return result;
}

}  // namespace

std::vector<int64_t> visible_keys(SliceList slices, int64_t i) {
  std::vector<int64_t> keys;
  for (const AttentionSlice& slice : slices) {
    if (i < slice.query_begin || i >= slice.query_end) continue;
    for (int64_t j = slice.key_begin; j < slice.key_end; ++j) {
      const bool masked = slice.mask == AttentionSlice::Mask::causal &&
                          j - slice.key_begin > i - slice.query_begin + slice.diagonal;
      const bool too_far = slice.left_diagonal.has_value() &&
                           j - slice.key_begin <= i - slice.query_begin + *slice.left_diagonal;
      if (!masked && !too_far) keys.push_back(j);
    }
  }
  return keys;
}

Attention attention_forward(SliceList slices, const Values& q, const Values& k, const Values& v,
                            double scale, const AttentionShape& shape) {
  Attention result{zeros(shape.queries * shape.heads * shape.head_dim),
                   zeros(shape.queries * shape.heads)};
  for (int64_t i = 0; i < shape.queries; ++i) {
    const std::vector<int64_t> keys = visible_keys(slices, i);
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t kv_head = h / (shape.heads / shape.kv_heads);
      const int64_t query = i * shape.heads + h;
      const Softmax p = softmax(row(q, query, shape.head_dim), k, keys, kv_head, scale, shape);
      result.lse.data()[query] = p.lse;
      for (size_t n = 0; n < keys.size(); ++n) {
        add_scaled(p.probabilities[n], row(v, keys[n] * shape.kv_heads + kv_head, shape.head_dim),
                   row(result.out, query, shape.head_dim), shape.head_dim);
      }
    }
  }
  return result;
}

AttentionGradients attention_backward(SliceList slices, const Values& q, const Values& k,
                                      const Values& v, const Values& dout, double scale,
                                      const AttentionShape& shape) {
  const int64_t width = shape.head_dim;
  AttentionGradients g{zeros(shape.queries * shape.heads * width),
                       zeros(shape.keys * shape.kv_heads * width),
                       zeros(shape.keys * shape.kv_heads * width)};
  for (int64_t i = 0; i < shape.queries; ++i) {
    const std::vector<int64_t> keys = visible_keys(slices, i);
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t kv_head = h / (shape.heads / shape.kv_heads);
      const int64_t query = i * shape.heads + h;
      const double* up = row(dout, query, width);
      const Softmax p = softmax(row(q, query, width), k, keys, kv_head, scale, shape);
      // out = sum of p_n v_n, and the softmax's Jacobian is diag(p) - p p^T.
      Values dp;
      double weighted = 0;
      for (size_t n = 0; n < keys.size(); ++n) {
        dp.push_back(dot(up, row(v, keys[n] * shape.kv_heads + kv_head, width), width));
        weighted += p.probabilities[n] * dp[n];
      }
      for (size_t n = 0; n < keys.size(); ++n) {
        const int64_t key = keys[n] * shape.kv_heads + kv_head;
        const double dlogit = p.probabilities[n] * (dp[n] - weighted);
        add_scaled(scale * dlogit, row(k, key, width), row(g.dq, query, width), width);
        add_scaled(scale * dlogit, row(q, query, width), row(g.dk, key, width), width);
        add_scaled(p.probabilities[n], up, row(g.dv, key, width), width);
      }
    }
  }
  return g;
}

Values attention_delta(const Values& dout, const Values& out, const AttentionShape& shape) {
  Values delta;
  for (int64_t i = 0; i < shape.queries * shape.heads; ++i) {
    delta.push_back(dot(row(dout, i, shape.head_dim), row(out, i, shape.head_dim), shape.head_dim));
  }
  return delta;
}

}  // namespace ringbolt::reference
