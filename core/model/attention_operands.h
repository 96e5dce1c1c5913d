// The type that attention computes in, where it is not the model's: q, k and v are brought to it
// once, before they travel.
//
// fp8 is E4M3 (core/base/e4m3.h) with one scale for q, one for k and one for v of each rank, taken
// from the largest value of the call. Keys are taken from their mean first, which moves all logits
// of a query alike (SageAttention, arXiv 2410.02367, section 4.2): what keys have in common is most
// of them, and would be most of what is rounded away. It is forward only.
#pragma once

#include <string>

#include "core/backend/backend.h"

namespace ringbolt {

enum class AttentionDType {
  model,  ///< the model's: nothing is converted
  f32,
  bf16,
  fp8,         ///< q, k, v and the weights in E4M3; sums, statistics and the output as ever
  fp8_output,  ///< the output, too: E4m3Output::rounded
};
/// "auto" for model.
std::string name_of(AttentionDType dtype);
/// The type itself, in a model of another: "bf16" for model in bf16.
std::string name_of(AttentionDType dtype, DType of_model);
bool is_fp8(AttentionDType dtype);
/// Throws: UsageError where the device has no such attention.
void require_attention_dtype(const Backend& backend, AttentionDType dtype);

/// Throws: UsageError for any type but the model's: attention in others is forward only.
void require_backward(AttentionDType dtype);

/// Bytes of keys and values, kv (T, 2K, D) in a model of type `a`, as one block.
int64_t key_block_bytes(AttentionDType dtype, DType a, const Shape& kv);

/// Operands of one forward call, and the call.
class AttentionOperands {
 public:
  /// For kv (T, 2K, D) of the model's type.
  AttentionOperands(Backend& backend, AttentionDType dtype, ConstView kv);

  struct Queries {
    ConstView q;      ///< (T, H, D) in the attention's type
    ConstView scale;  ///< fp8
    Tensor storage;
    Tensor scales;
  };
  Queries queries(ConstView q);

  /// kv as one block, which may travel: kv itself where nothing is converted, else in `storage`.
  ConstView block(ConstView kv, Tensor& storage);
  DType block_dtype() const { return block_dtype_; }
  const Shape& block_shape() const { return block_shape_; }

  /// Merges attention to the keys of a block of any rank into out and lse. See
  /// Backend::attention_forward.
  void attend(SliceList slices, const Queries& queries, ConstView block, float scale, View out,
              View lse);

 private:
  /// Behind the codes of a block: the scales of k and of v (2), and what was taken from keys (K,
  /// D); f32.
  template <class AnyView>
  AnyView scales_of(AnyView block) const {
    return {block.bytes() + scales_at_, DType::f32, {2}};
  }
  template <class AnyView>
  AnyView centre_of(AnyView block) const {
    return {block.bytes() + centre_at_, DType::f32, {kv_[1] / 2, kv_[2]}};
  }

  Backend& backend_;
  AttentionDType dtype_;
  Shape kv_;
  DType block_dtype_;
  Shape block_shape_;  ///< fp8: bytes
  int64_t scales_at_;  ///< (T, 2K, D) codes filled up to a multiple of 16
  int64_t centre_at_;
};

}  // namespace ringbolt
