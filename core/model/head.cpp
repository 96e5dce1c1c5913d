#include "core/model/head.h"

#include <algorithm>

namespace ringbolt {

int64_t head_chunk_tokens(int64_t vocab_size) {
  constexpr int64_t kLogits = int64_t{1} << 25;
  return std::max<int64_t>(1, kLogits / vocab_size);
}

TokenLosses Head::losses(const HeadViews<ConstView>& w, ConstView x, ConstView targets) const {
  Tensor normed = backend_.allocate(x.dtype(), x.shape());
  Tensor rstd = backend_.allocate(DType::f32, {x.rows()});
  backend_.rms_norm_forward(x, w.norm, epsilon(), normed, rstd);
  return chunked_losses(w, normed, targets, std::nullopt);
}

TokenLosses Head::losses_backward(const HeadViews<ConstView>& w, const HeadViews<View>& g, ConstView targets,
                                  float scale, View x) const {
  Tensor normed = backend_.allocate(x.dtype(), x.shape());
  Tensor dnormed = backend_.allocate(x.dtype(), x.shape());
  Tensor rstd = backend_.allocate(DType::f32, {x.rows()});
  backend_.rms_norm_forward(x, w.norm, epsilon(), normed, rstd);
  TokenLosses result = chunked_losses(w, normed, targets, Gradients{g, scale, dnormed});
  // The norm's backward adds to dx, which starts at zero, while it still reads x: so it needs a buffer of its own.
  backend_.fill_zero(normed);
  backend_.rms_norm_backward(dnormed, x, w.norm, rstd, normed, g.norm);
  backend_.convert(normed, x);
  return result;
}

TokenLosses Head::chunked_losses(const HeadViews<ConstView>& w, ConstView normed, ConstView targets,
                                 const std::optional<Gradients>& gradients) const {
  const int64_t tokens = normed.rows();
  const int64_t chunk = std::min(tokens, head_chunk_tokens(config_.vocab_size));
  TokenLosses result{backend_.allocate(DType::f32, {tokens}), backend_.allocate(DType::i32, {tokens})};
  Tensor logit_buffer = backend_.allocate(DType::f32, {chunk, config_.vocab_size});
  const bool narrow = gradients && normed.dtype() != DType::f32;
  Tensor gradient_buffer = narrow ? backend_.allocate(normed.dtype(), logit_buffer.shape()) : Tensor();
  for (int64_t begin = 0; begin < tokens; begin += chunk) {
    const int64_t end = std::min(tokens, begin + chunk);
    const ConstView rows = normed.slice_rows(begin, end);
    const View logit_rows = logit_buffer.view().slice_rows(0, end - begin);
    backend_.matmul(rows, Transpose::no, w.table, Transpose::yes, logit_rows);
    CrossEntropyViews views{logit_rows, targets.slice_rows(begin, end), result.losses.view().slice_rows(begin, end),
                            result.hits.view().slice_rows(begin, end), View()};
    if (!gradients) {
      backend_.cross_entropy(views, 0.0F);
      continue;
    }
    views.gradient = narrow ? gradient_buffer.view().slice_rows(0, end - begin) : logit_rows;
    backend_.cross_entropy(views, gradients->scale);
    backend_.matmul(views.gradient, Transpose::yes, rows, Transpose::no, gradients->weights.table, Update::accumulate);
    backend_.matmul(views.gradient, Transpose::no, w.table, Transpose::no, gradients->dnormed.slice_rows(begin, end));
  }
  return result;
}

void Head::logits(const HeadViews<ConstView>& w, ConstView x, View logits) const {
  Tensor normed = backend_.allocate(x.dtype(), x.shape());
  Tensor rstd = backend_.allocate(DType::f32, {x.rows()});
  backend_.rms_norm_forward(x, w.norm, epsilon(), normed, rstd);
  backend_.matmul(normed, Transpose::no, w.table, Transpose::yes, logits);
}

}  // namespace ringbolt
