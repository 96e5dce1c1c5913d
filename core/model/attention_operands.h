// The type that attention computes in, where it is not the model's: q, k and v are brought to it
// once, before they travel.
//
// fp8 is E4M3 (core/base/e4m3.h) with one scale for q, one for k and one for v of each rank, taken
// from the largest value of the call; powers of two, so that results do not depend on how a
// sequence was cut. It is forward only.
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
  View scales_of(View block) const;

  Backend& backend_;
  AttentionDType dtype_;
  Shape kv_;
  DType block_dtype_;
  Shape block_shape_;  ///< fp8: bytes, (T, 2K, D) codes filled up to a multiple of 16, then the
                       ///< scales of k and of v
};

}  // namespace ringbolt
