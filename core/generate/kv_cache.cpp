#include "core/generate/kv_cache.h"

#include <numeric>
#include <utility>

#include "core/base/error.h"

namespace ringbolt {

KvCache::KvCache(Backend& backend, const ModelConfig& config, DType dtype, int64_t capacity,
                 const Visibility& visibility, std::optional<RotaryTables> rotary)
    : backend_(backend),
      pairing_(config.rotary_pairing),
      capacity_(capacity),
      visibility_(visibility),
      rotary_(std::move(rotary)) {
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    layers_.push_back(
        backend.allocate(dtype, {capacity, 2 * config.num_key_value_heads, config.head_dim}));
  }
}

/// What all layers share: slices of the new tokens [length, end), and the table where this cache
/// rotates.
void KvCache::begin_pass(int64_t end) {
  slices_.clear();
  append_slices({0, end - length_, length_}, {0, end, 0}, visibility_, slices_);
  if (!rotary_) return;
  std::vector<int64_t> positions(static_cast<size_t>(end));
  std::iota(positions.begin(), positions.end(), int64_t{0});
  table_ = RotaryTable();  // two never take memory at once
  table_ = (*rotary_)(positions);
}

void KvCache::forward(int64_t layer, ConstView q, ConstView kv, View out, View lse) {
  const int64_t end = length_ + q.rows();
  if (end > capacity_) {
    throw UsageError(message(concat("the key/value cache is full at ", capacity_, " tokens"),
                             "the prompt and what is generated must fit", "Ask for fewer tokens."));
  }
  if (layer == 0) begin_pass(end);
  Tensor& cache = layers_[static_cast<size_t>(layer)];
  backend_.convert(kv, cache.view().slice_rows(length_, end));
  const ConstView all = cache.view().slice_rows(0, end);
  const int64_t kv_heads = kv.dim(1) / 2;
  attend(q, all.slice_columns(0, kv_heads), all.slice_columns(kv_heads, 2 * kv_heads), out, lse);
  if (layer + 1 == static_cast<int64_t>(layers_.size())) length_ = end;
}

void KvCache::attend(ConstView q, ConstView k, ConstView v, View out, View lse) {
  Tensor turned_q;
  Tensor turned_k;
  if (rotary_) {
    const auto mine = [&](const Tensor& all) {
      return all.view().slice_rows(length_, length_ + q.rows());
    };
    std::optional<ConstView> scale;
    if (table_.query_scale) scale = mine(*table_.query_scale);
    turned_q = backend_.allocate(q.dtype(), q.shape());
    turned_k = backend_.allocate(k.dtype(), k.shape());
    backend_.convert(q, turned_q);
    backend_.convert(k, turned_k);
    backend_.rotary(turned_q, mine(table_.cos), mine(table_.sin), pairing_,
                    RotaryDirection::forward, scale);
    backend_.rotary(turned_k, table_.cos, table_.sin, pairing_, RotaryDirection::forward);
    q = turned_q;
    k = turned_k;
  }
  backend_.begin_attention(out, lse);
  backend_.attention_forward(slices_, q, k, v, attention_scale(q.dim(2)), out, lse);
}

void KvCache::backward(int64_t, ConstView, ConstView, ConstView, ConstView, ConstView, View, View) {
  throw std::logic_error("a key/value cache has no backward");
}

}  // namespace ringbolt
