#include "core/model/block.h"

#include "core/base/error.h"

namespace ringbolt {
namespace {

/// (T, N, D) as (T, N D).
template <class AnyView>
AnyView flat_heads(AnyView x) {
  return x.reshape({x.dim(0), x.row_elements()});
}

ConstView matrix(const Tensor& x) { return flat_heads(x.view()); }
View matrix(Tensor& x) { return flat_heads(x.view()); }

std::optional<ConstView> scale_of(const RotaryTable& rotary) {
  if (!rotary.query_scale) return std::nullopt;
  return rotary.query_scale->view();
}

}  // namespace

Recompute recompute_policy(std::string_view name) {
  if (name == "none") return Recompute::none;
  if (name == "block") return Recompute::block;
  if (name == "block-keep-attention") return Recompute::block_keep_attention;
  throw UsageError(message(concat("unknown recompute policy '", name, "'"),
                           "known are none, block, block-keep-attention",
                           "Try --recompute block-keep-attention."));
}

// --- forward -------------------------------------------------------------------------------------

void Block::project(const LayerViews<ConstView>& w, const RotaryTable& rotary, ConstView x, View q,
                    View kv) const {
  const int64_t kv_heads = config_.num_key_value_heads;
  for_token_pieces(x.rows(), piece_tokens_, [&](int64_t begin, int64_t end) {
    const ConstView rows = x.slice_rows(begin, end);
    Tensor normed = backend_.allocate(x.dtype(), rows.shape());
    Tensor rstd = backend_.allocate(DType::f32, {end - begin});
    backend_.rms_norm_forward(rows, w.attention_norm, epsilon(), normed, rstd);
    const View q_rows = flat_heads(q.slice_rows(begin, end));
    const View kv_rows = flat_heads(kv.slice_rows(begin, end));
    backend_.matmul(normed, Transpose::no, w.wq, Transpose::yes, q_rows, Update::overwrite, w.bq);
    backend_.matmul(normed, Transpose::no, w.wkv, Transpose::yes, kv_rows, Update::overwrite,
                    w.bkv);
  });
  if (rotary.rotated_by == RotatedBy::attention) return;
  backend_.rotary(q, rotary.cos, rotary.sin, config_.rotary_pairing, RotaryDirection::forward,
                  scale_of(rotary));
  backend_.rotary(kv.slice_columns(0, kv_heads), rotary.cos, rotary.sin, config_.rotary_pairing,
                  RotaryDirection::forward);
}

/// x += attention(x) Wo. Of q, k and v nothing is left where only the output is kept.
void Block::attend(int64_t layer, const LayerViews<ConstView>& w, const RotaryTable& rotary,
                   Attention& attention, Keep keep, BlockActivations& a, View x) const {
  const int64_t tokens = x.rows();
  a.q = backend_.allocate(x.dtype(), {tokens, config_.num_attention_heads, config_.head_dim});
  a.kv = backend_.allocate(x.dtype(), {tokens, 2 * config_.num_key_value_heads, config_.head_dim});
  project(w, rotary, x, a.q, a.kv);
  if (a.attention.empty()) {  // else a policy kept it
    a.attention = backend_.allocate(x.dtype(), a.q.shape());
    a.lse = backend_.allocate(DType::f32, {tokens, config_.num_attention_heads});
    attention.forward(layer, a.q, a.kv, a.attention, a.lse);
  }
  if (keep == Keep::output) {
    a.q = Tensor();
    a.kv = Tensor();
  }
  backend_.matmul(matrix(std::as_const(a.attention)), Transpose::no, w.wo, Transpose::yes, x,
                  Update::accumulate);
}

/// x += feed-forward(x); gate_up (tokens, 2F), where given, keeps the products before SwiGLU.
void Block::feed_forward(const LayerViews<ConstView>& w, View gate_up, View x) const {
  for_token_pieces(x.rows(), piece_tokens_, [&](int64_t begin, int64_t end) {
    const View rows = x.slice_rows(begin, end);
    Tensor normed = backend_.allocate(x.dtype(), rows.shape());
    Tensor rstd = backend_.allocate(DType::f32, {end - begin});
    backend_.rms_norm_forward(rows, w.feed_forward_norm, epsilon(), normed, rstd);
    Tensor own = gate_up.empty()
                     ? backend_.allocate(x.dtype(), {end - begin, 2 * config_.intermediate_size})
                     : Tensor();
    const View products = gate_up.empty() ? own.view() : gate_up.slice_rows(begin, end);
    backend_.matmul(normed, Transpose::no, w.w_gate_up, Transpose::yes, products);
    Tensor hidden = backend_.allocate(x.dtype(), {end - begin, config_.intermediate_size});
    backend_.swiglu_forward(products, hidden);
    backend_.matmul(hidden, Transpose::no, w.w_down, Transpose::yes, rows, Update::accumulate);
  });
}

void Block::forward(int64_t layer, const LayerViews<ConstView>& w, const RotaryTable& rotary,
                    Attention& attention, View x) const {
  {
    BlockActivations scratch;
    attend(layer, w, rotary, attention, Keep::output, scratch, x);
  }
  feed_forward(w, View(), x);
}

BlockActivations Block::forward_keeping(int64_t layer, const LayerViews<ConstView>& w,
                                        const RotaryTable& rotary, Attention& attention,
                                        Recompute policy, View x) const {
  BlockActivations a;
  a.input = backend_.allocate(x.dtype(), x.shape());
  backend_.convert(x, a.input);
  attend(layer, w, rotary, attention, policy == Recompute::none ? Keep::all : Keep::output, a, x);
  if (policy == Recompute::block) {
    a.attention = Tensor();
    a.lse = Tensor();
  }
  if (policy == Recompute::none) {
    a.middle = backend_.allocate(x.dtype(), x.shape());
    backend_.convert(x, a.middle);
    a.gate_up = backend_.allocate(x.dtype(), {x.rows(), 2 * config_.intermediate_size});
    feed_forward(w, a.gate_up, x);
  } else {
    feed_forward(w, View(), x);
  }
  return a;
}

// --- backward, in reverse order ------------------------------------------------------------------

void Block::backward(int64_t layer, const LayerViews<ConstView>& w, const LayerViews<View>& g,
                     const RotaryTable& rotary, Attention& attention, BlockActivations kept,
                     View dx) const {
  if (kept.middle.empty()) restore(layer, w, rotary, attention, kept);
  feed_forward_backward(w, g, kept.middle, kept.gate_up, dx);
  kept.gate_up = Tensor();
  kept.middle = Tensor();
  attention_backward(layer, w, g, rotary, attention, kept, dx);
}

/// Computes again what the policy dropped, up to the middle of the block; the feed-forward is
/// recomputed by pieces.
void Block::restore(int64_t layer, const LayerViews<ConstView>& w, const RotaryTable& rotary,
                    Attention& attention, BlockActivations& kept) const {
  kept.middle = backend_.allocate(kept.input.dtype(), kept.input.shape());
  backend_.convert(kept.input, kept.middle);
  attend(layer, w, rotary, attention, Keep::all, kept, kept.middle);
}

void Block::feed_forward_backward(const LayerViews<ConstView>& w, const LayerViews<View>& g,
                                  ConstView middle, View gate_up, View dx) const {
  const int64_t ffn = config_.intermediate_size;
  for_token_pieces(dx.rows(), piece_tokens_, [&](int64_t begin, int64_t end) {
    const ConstView x = middle.slice_rows(begin, end);
    const View dy = dx.slice_rows(begin, end);
    const int64_t tokens = end - begin;
    Tensor normed = backend_.allocate(x.dtype(), x.shape());
    Tensor rstd = backend_.allocate(DType::f32, {tokens});
    backend_.rms_norm_forward(x, w.feed_forward_norm, epsilon(), normed, rstd);
    Tensor own = gate_up.empty() ? backend_.allocate(x.dtype(), {tokens, 2 * ffn}) : Tensor();
    const View products = gate_up.empty() ? own.view() : gate_up.slice_rows(begin, end);
    if (gate_up.empty())
      backend_.matmul(normed, Transpose::no, w.w_gate_up, Transpose::yes, products);
    Tensor hidden = backend_.allocate(x.dtype(), {tokens, ffn});
    backend_.swiglu_forward(products, hidden);
    backend_.matmul(dy, Transpose::yes, hidden, Transpose::no, g.w_down, Update::accumulate);
    const View dhidden = hidden;  // the product itself is spent
    backend_.matmul(dy, Transpose::no, w.w_down, Transpose::no, dhidden);
    backend_.swiglu_backward(dhidden, products);
    backend_.matmul(products, Transpose::yes, normed, Transpose::no, g.w_gate_up,
                    Update::accumulate);
    const View dnormed = normed;
    backend_.matmul(products, Transpose::no, w.w_gate_up, Transpose::no, dnormed);
    backend_.rms_norm_backward(dnormed, x, w.feed_forward_norm, rstd, dy, g.feed_forward_norm);
  });
}

void Block::attention_backward(int64_t layer, const LayerViews<ConstView>& w,
                               const LayerViews<View>& g, const RotaryTable& rotary,
                               Attention& attention, const BlockActivations& a, View dx) const {
  const int64_t kv_heads = config_.num_key_value_heads;
  const DType dtype = dx.dtype();
  Tensor dattention = backend_.allocate(dtype, a.attention.shape());
  backend_.matmul(dx, Transpose::yes, matrix(a.attention), Transpose::no, g.wo, Update::accumulate);
  backend_.matmul(dx, Transpose::no, w.wo, Transpose::no, matrix(dattention));
  Tensor dq = backend_.allocate(dtype, a.q.shape());
  Tensor dkv = backend_.allocate(dtype, a.kv.shape());
  attention.backward(layer, a.q, a.kv, dattention, a.attention, a.lse, dq, dkv);
  dattention = Tensor();
  if (rotary.rotated_by == RotatedBy::block) {
    const RotaryPairing pairing = config_.rotary_pairing;
    const View dk = dkv.view().slice_columns(0, kv_heads);
    if (!rotary.dangles.empty()) {  // of what is rotated, so before it is turned back
      backend_.rotary_angle_backward(a.q, dq, pairing, rotary.dangles);
      backend_.rotary_angle_backward(a.kv.view().slice_columns(0, kv_heads), dk, pairing,
                                     rotary.dangles);
    }
    backend_.rotary(dq, rotary.cos, rotary.sin, pairing, RotaryDirection::backward,
                    scale_of(rotary));
    backend_.rotary(dk, rotary.cos, rotary.sin, pairing, RotaryDirection::backward);
  }
  if (g.bq) backend_.bias_backward(matrix(dq), *g.bq);
  if (g.bkv) backend_.bias_backward(matrix(dkv), *g.bkv);
  Tensor normed = backend_.allocate(dtype, dx.shape());
  Tensor rstd = backend_.allocate(DType::f32, {dx.rows()});
  backend_.rms_norm_forward(a.input, w.attention_norm, epsilon(), normed, rstd);
  backend_.matmul(matrix(dq), Transpose::yes, normed, Transpose::no, g.wq, Update::accumulate);
  backend_.matmul(matrix(dkv), Transpose::yes, normed, Transpose::no, g.wkv, Update::accumulate);
  const View dnormed = normed;
  backend_.matmul(matrix(dq), Transpose::no, w.wq, Transpose::no, dnormed);
  backend_.matmul(matrix(dkv), Transpose::no, w.wkv, Transpose::no, dnormed, Update::accumulate);
  backend_.rms_norm_backward(dnormed, a.input, w.attention_norm, rstd, dx, g.attention_norm);
}

}  // namespace ringbolt
