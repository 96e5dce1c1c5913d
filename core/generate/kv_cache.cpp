#include "core/generate/kv_cache.h"

#include <array>

#include "core/base/error.h"

namespace ringbolt {

KvCache::KvCache(Backend& backend, const ModelConfig& config, DType dtype, int64_t capacity)
    : backend_(backend), capacity_(capacity) {
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    layers_.push_back(backend.allocate(dtype, {capacity, 2 * config.num_key_value_heads, config.head_dim}));
  }
}

void KvCache::forward(int64_t layer, ConstView q, ConstView kv, View out, View lse) {
  const int64_t end = length_ + q.rows();
  if (end > capacity_) {
    throw UsageError(message(concat("the key/value cache is full at ", capacity_, " tokens"),
                             "the prompt and what is generated must fit", "Ask for fewer tokens."));
  }
  Tensor& cache = layers_[static_cast<size_t>(layer)];
  backend_.convert(kv, cache.view().slice_rows(length_, end));
  const ConstView all = cache.view().slice_rows(0, end);
  const int64_t kv_heads = kv.dim(1) / 2;
  const std::array<AttentionSlice, 1> slices{{{0, q.rows(), 0, end, AttentionSlice::Mask::causal, length_}}};
  backend_.begin_attention(out, lse);
  backend_.attention_forward(slices, q, all.slice_columns(0, kv_heads), all.slice_columns(kv_heads, 2 * kv_heads),
                             attention_scale(q.dim(2)), out, lse);
  if (layer + 1 == static_cast<int64_t>(layers_.size())) length_ = end;
}

void KvCache::backward(int64_t, ConstView, ConstView, ConstView, ConstView, ConstView, View, View) {
  throw std::logic_error("a key/value cache has no backward");
}

}  // namespace ringbolt
