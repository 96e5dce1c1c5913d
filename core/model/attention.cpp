#include "core/model/attention.h"

#include <atomic>
#include <cmath>

namespace ringbolt {

Attention::Attention() {
  static std::atomic<int64_t> made = 0;
  identity_ = ++made;
}

float attention_scale(int64_t head_dim) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)));
}

void WholeSequenceAttention::forward(int64_t, ConstView q, ConstView kv, View out, View lse) {
  AttentionOperands operands(backend_, dtype_, kv);
  const AttentionOperands::Queries queries = operands.queries(q);
  Tensor storage;
  const ConstView block = operands.block(kv, storage);
  backend_.begin_attention(out, lse);
  operands.attend(slices_, queries, block, attention_scale(q.dim(2)), out, lse);
}

void WholeSequenceAttention::backward(int64_t, ConstView q, ConstView kv, ConstView dout,
                                      ConstView out, ConstView lse, View dq, View dkv) {
  require_backward(dtype_);
  const int64_t kv_heads = kv.dim(1) / 2;
  // Sums are f32. In an f32 model the results themselves serve; in a bf16 one they are rounded once
  // at the end.
  const bool direct = q.dtype() == DType::f32;
  Tensor dq_sum = direct ? Tensor() : backend_.allocate(DType::f32, dq.shape());
  Tensor dkv_sum = direct ? Tensor() : backend_.allocate(DType::f32, dkv.shape());
  const View dq_f32 = direct ? dq : dq_sum.view();
  const View dkv_f32 = direct ? dkv : dkv_sum.view();
  backend_.fill_zero(dq_f32);
  backend_.fill_zero(dkv_f32);
  Tensor delta = backend_.allocate(DType::f32, lse.shape());
  backend_.attention_delta(dout, out, delta);
  backend_.attention_backward(slices_, q, kv.slice_columns(0, kv_heads),
                              kv.slice_columns(kv_heads, 2 * kv_heads), dout, lse, delta,
                              attention_scale(q.dim(2)), dq_f32, dkv_f32.slice_columns(0, kv_heads),
                              dkv_f32.slice_columns(kv_heads, 2 * kv_heads));
  if (direct) return;
  backend_.convert(dq_f32, dq);
  backend_.convert(dkv_f32, dkv);
}

}  // namespace ringbolt
