#include "core/model/two_part_attention.h"

#include <algorithm>

namespace ringbolt {
namespace {

using Turns = TwoPartAttention::Turns;

Turns queries_of(const RotaryTable& table) {
  Turns turns{table.cos, table.sin, std::nullopt};
  if (table.query_scale) turns.scale = table.query_scale->view();
  return turns;
}

Turns keys_of(const RotaryTable& table) { return {table.cos, table.sin, std::nullopt}; }

}  // namespace

Tensor TwoPartAttention::rotated(ConstView x, int64_t heads, const Turns& turns) const {
  Tensor copy = backend_.allocate(x.dtype(), x.shape());
  backend_.convert(x, copy);
  backend_.rotary(copy.view().slice_columns(0, heads), turns.cos, turns.sin, pairing_,
                  RotaryDirection::forward, turns.scale);
  return copy;
}

void TwoPartAttention::forward(int64_t layer, ConstView q, ConstView kv, View out, View lse) {
  const int64_t kv_heads = kv.dim(1) / 2;
  Tensor far_out = backend_.allocate(DType::f32, out.shape());
  Tensor far_lse = backend_.allocate(DType::f32, lse.shape());
  {
    const Tensor far_q = rotated(q, q.dim(1), queries_of(tables_.far_queries));
    const Tensor far_kv = rotated(kv, kv_heads, keys_of(tables_.far_keys));
    far_.forward(layer, far_q, far_kv, far_out, far_lse);
  }
  const Tensor near_q = rotated(q, q.dim(1), queries_of(tables_.near));
  const Tensor near_kv = rotated(kv, kv_heads, keys_of(tables_.near));
  Tensor near_out = backend_.allocate(DType::f32, out.shape());
  near_.forward(layer, near_q, near_kv, near_out, lse);
  backend_.merge_attention(far_out, far_lse, near_out, lse);
  backend_.convert(near_out, out);
}

void TwoPartAttention::backward(int64_t layer, ConstView q, ConstView kv, ConstView dout,
                                ConstView out, ConstView lse, View dq, View dkv) {
  const int64_t kv_heads = kv.dim(1) / 2;
  Tensor dq_sum = backend_.allocate(DType::f32, dq.shape());
  Tensor dkv_sum = backend_.allocate(DType::f32, dkv.shape());
  backend_.fill_zero(dq_sum);
  backend_.fill_zero(dkv_sum);
  const auto add_part = [&](Attention& part, const Turns& queries, const Turns& keys) {
    const Tensor part_q = rotated(q, q.dim(1), queries);
    const Tensor part_kv = rotated(kv, kv_heads, keys);
    Tensor part_dq = backend_.allocate(DType::f32, dq.shape());
    Tensor part_dkv = backend_.allocate(DType::f32, dkv.shape());
    // With the merged output and log-sum-exp each part's share is its part of the whole softmax.
    part.backward(layer, part_q, part_kv, dout, out, lse, part_dq, part_dkv);
    backend_.rotary(part_dq, queries.cos, queries.sin, pairing_, RotaryDirection::backward,
                    queries.scale);
    backend_.rotary(part_dkv.view().slice_columns(0, kv_heads), keys.cos, keys.sin, pairing_,
                    RotaryDirection::backward);
    backend_.add(part_dq, dq_sum);
    backend_.add(part_dkv, dkv_sum);
  };
  add_part(near_, queries_of(tables_.near), keys_of(tables_.near));
  add_part(far_, queries_of(tables_.far_queries), keys_of(tables_.far_keys));
  backend_.convert(dq_sum, dq);
  backend_.convert(dkv_sum, dkv);
}

const PlacedTokens& TwoPartPlacement::place(std::span<const int64_t> offsets) {
  if (attention_ != nullptr &&
      std::equal(offsets.begin(), offsets.end(), offsets_.begin(), offsets_.end())) {
    return placed_;
  }
  offsets_.assign(offsets.begin(), offsets.end());
  const PlacedTokens& near = near_->place(offsets);
  const PlacedTokens& far = far_->place(offsets);
  attention_ = std::make_unique<TwoPartAttention>(backend_, *near.attention, *far.attention,
                                                  rotation_.tables(near.positions), pairing_);
  placed_ = {near.tokens, near.positions, attention_.get()};
  return placed_;
}

}  // namespace ringbolt
