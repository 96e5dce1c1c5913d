// Reference of attention over a list of slices: for each query the whole softmax over every key it
// sees, then the sum.
#pragma once

#include "core/backend/attention_slice.h"
#include "tests/support/reference/values.h"

namespace ringbolt::reference {

struct AttentionShape {
  int64_t queries;   ///< T
  int64_t keys;      ///< Tk
  int64_t heads;     ///< H
  int64_t kv_heads;  ///< K; query head h reads key head h / (H / K)
  int64_t head_dim;  ///< D
};

/// The keys that query `i` sees in the whole list, in the list's order.
std::vector<int64_t> visible_keys(SliceList slices, int64_t i);

struct Attention {
  Values out;  ///< (T, H, D); 0 where a query sees no key
  Values lse;  ///< (T, H): log of the sum of exp(scale * q.k); -inf where a query sees no key
};
/// q (T, H, D), k and v (Tk, K, D).
Attention attention_forward(SliceList slices, const Values& q, const Values& k, const Values& v,
                            double scale, const AttentionShape& shape);

struct AttentionGradients {
  Values dq;  ///< (T, H, D)
  Values dk;  ///< (Tk, K, D)
  Values dv;  ///< (Tk, K, D)
};
/// dout (T, H, D).
AttentionGradients attention_backward(SliceList slices, const Values& q, const Values& k,
                                      const Values& v, const Values& dout, double scale,
                                      const AttentionShape& shape);

/// (T, H): row sums of dout * out.
Values attention_delta(const Values& dout, const Values& out, const AttentionShape& shape);

}  // namespace ringbolt::reference
