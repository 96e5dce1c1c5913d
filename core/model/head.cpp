#include "core/model/head.h"

#include <algorithm>

namespace ringbolt {

int64_t head_chunk_tokens(int64_t vocab_size) {
  constexpr int64_t kLogits = int64_t{1} << 25;
  return std::max<int64_t>(1, kLogits / vocab_size);
}

TokenLosses Head::losses(const HeadViews<ConstView>& w, ConstView x, ConstView targets) const {
  const int64_t tokens = x.rows();
  const int64_t chunk = std::min({tokens, head_chunk_tokens(config_.vocab_size), piece_tokens_});
  TokenLosses result = allocate_losses(tokens);
  Tensor logit_buffer = backend_.allocate(DType::f32, {chunk, config_.vocab_size});
  for_token_pieces(tokens, chunk, [&](int64_t begin, int64_t end) {
    const View logit_rows = logit_buffer.view().slice_rows(0, end - begin);
    logits(w, x.slice_rows(begin, end), logit_rows);
    backend_.cross_entropy(
        {logit_rows, targets.slice_rows(begin, end), result.losses.view().slice_rows(begin, end),
         result.hits.view().slice_rows(begin, end), View()},
        0.0F);
  });
  return result;
}

void Head::losses_backward(const HeadViews<ConstView>& w, const HeadViews<View>& g,
                           ConstView targets, float scale, View x, TokenLosses& losses) const {
  Tensor normed = backend_.allocate(x.dtype(), x.shape());
  Tensor dnormed = backend_.allocate(x.dtype(), x.shape());
  Tensor rstd = backend_.allocate(DType::f32, {x.rows()});
  backend_.rms_norm_forward(x, w.norm, epsilon(), normed, rstd);
  chunked_losses(w, g, normed, targets, scale, dnormed, losses);
  // The norm's backward adds to dx, which starts at zero, while it still reads x: so it needs a
  // buffer of its own.
  backend_.fill_zero(normed);
  backend_.rms_norm_backward(dnormed, x, w.norm, rstd, normed, g.norm);
  backend_.convert(normed, x);
}

/// Losses and, added to g and written to dnormed, the gradients before the final norm.
void Head::chunked_losses(const HeadViews<ConstView>& w, const HeadViews<View>& g, ConstView normed,
                          ConstView targets, float scale, View dnormed, TokenLosses& losses) const {
  const int64_t tokens = normed.rows();
  const int64_t chunk = std::min(tokens, head_chunk_tokens(config_.vocab_size));
  Tensor logit_buffer = backend_.allocate(DType::f32, {chunk, config_.vocab_size});
  const bool narrow = normed.dtype() != DType::f32;
  Tensor gradient_buffer =
      narrow ? backend_.allocate(normed.dtype(), logit_buffer.shape()) : Tensor();
  for_token_pieces(tokens, chunk, [&](int64_t begin, int64_t end) {
    const ConstView rows = normed.slice_rows(begin, end);
    const View logit_rows = logit_buffer.view().slice_rows(0, end - begin);
    backend_.matmul(rows, Transpose::no, w.table, Transpose::yes, logit_rows);
    const View gradient = narrow ? gradient_buffer.view().slice_rows(0, end - begin) : logit_rows;
    backend_.cross_entropy(
        {logit_rows, targets.slice_rows(begin, end), losses.losses.view().slice_rows(begin, end),
         losses.hits.view().slice_rows(begin, end), gradient},
        scale);
    backend_.matmul(gradient, Transpose::yes, rows, Transpose::no, g.table, Update::accumulate);
    backend_.matmul(gradient, Transpose::no, w.table, Transpose::no,
                    dnormed.slice_rows(begin, end));
  });
}

TokenLosses Head::allocate_losses(int64_t tokens) const {
  return {backend_.allocate(DType::f32, {tokens}), backend_.allocate(DType::i32, {tokens})};
}

void Head::logits(const HeadViews<ConstView>& w, ConstView x, View logits) const {
  Tensor normed = backend_.allocate(x.dtype(), x.shape());
  Tensor rstd = backend_.allocate(DType::f32, {x.rows()});
  backend_.rms_norm_forward(x, w.norm, epsilon(), normed, rstd);
  backend_.matmul(normed, Transpose::no, w.table, Transpose::yes, logits);
}

}  // namespace ringbolt
