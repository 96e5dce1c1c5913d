// The attention seam: rotated queries, keys and values of *my* tokens in, attention over the whole
// sequence out.
//
// `core` has the whole-sequence one below and the cached one of core/generate; ring attention is
// the third. k and v come fused in one buffer (T, 2K, D), keys in its first K heads, because that
// is what travels between ranks and what caches.
#pragma once

#include <cstdint>
#include <vector>

#include "core/backend/backend.h"
#include "core/model/attention_operands.h"

namespace ringbolt {

class Attention {
 public:
  Attention();
  virtual ~Attention() = default;
  /// No other object of this process has the same: what was recorded with one is not replayed for
  /// another.
  int64_t identity() const { return identity_; }

  /// q (T, H, D) and kv (T, 2K, D) A, rotated unless the attention is one that does it; out (T, H,
  /// D) A and lse (T, H) f32 are overwritten.
  virtual void forward(int64_t layer, ConstView q, ConstView kv, View out, View lse) = 0;
  /// dout (T, H, D) A, with the operands and results of forward; dq (T, H, D) and dkv (T, 2K, D) A
  /// are overwritten. Throws: UsageError where forward computes in another type than the model's.
  virtual void backward(int64_t layer, ConstView q, ConstView kv, ConstView dout, ConstView out,
                        ConstView lse, View dq, View dkv) = 0;

 private:
  int64_t identity_;
};

/// 1 / sqrt(D), the factor on the logits.
float attention_scale(int64_t head_dim);

/// Attention on one device over all tokens, as the slices say.
class WholeSequenceAttention final : public Attention {
 public:
  WholeSequenceAttention(Backend& backend, std::vector<AttentionSlice> slices,
                         AttentionDType dtype = AttentionDType::model)
      : backend_(backend), slices_(std::move(slices)), dtype_(dtype) {}

  void forward(int64_t layer, ConstView q, ConstView kv, View out, View lse) override;
  void backward(int64_t layer, ConstView q, ConstView kv, ConstView dout, ConstView out,
                ConstView lse, View dq, View dkv) override;

 private:
  Backend& backend_;
  std::vector<AttentionSlice> slices_;
  AttentionDType dtype_;
};

}  // namespace ringbolt
