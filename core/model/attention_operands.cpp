#include "core/model/attention_operands.h"

#include "core/base/error.h"

namespace ringbolt {
namespace {

constexpr int64_t kAlignment = 16;  // of the scales behind the codes, and of a block's length

int64_t code_bytes(const Shape& kv) {
  return (kv.elements() + kAlignment - 1) / kAlignment * kAlignment;
}

DType dtype_in(AttentionDType dtype, DType a) {
  switch (dtype) {
    case AttentionDType::model:
      return a;
    case AttentionDType::f32:
      return DType::f32;
    case AttentionDType::bf16:
      return DType::bf16;
    case AttentionDType::fp8:
    case AttentionDType::fp8_output:
      return DType::e4m3;
  }
  return a;
}

E4m3Output output_of(AttentionDType dtype) {
  return dtype == AttentionDType::fp8_output ? E4m3Output::rounded : E4m3Output::wide;
}

}  // namespace

std::string name_of(AttentionDType dtype) {
  switch (dtype) {
    case AttentionDType::model:
      return "auto";
    case AttentionDType::f32:
      return "f32";
    case AttentionDType::bf16:
      return "bf16";
    case AttentionDType::fp8:
      return "fp8";
    case AttentionDType::fp8_output:
      return "fp8-output";
  }
  return "?";
}

std::string name_of(AttentionDType dtype, DType of_model) {
  return dtype == AttentionDType::model ? name_of(of_model) : name_of(dtype);
}

bool is_fp8(AttentionDType dtype) {
  return dtype == AttentionDType::fp8 || dtype == AttentionDType::fp8_output;
}

void require_attention_dtype(const Backend& backend, AttentionDType dtype) {
  if (is_fp8(dtype)) backend.require_e4m3_attention(output_of(dtype));
}

void require_backward(AttentionDType dtype) {
  if (dtype == AttentionDType::model) return;
  throw UsageError(message(concat("attention in ", name_of(dtype), " cannot be trained"),
                           "it is forward only, there are no gradients of it",
                           "Train in the model's type, and evaluate in this one."));
}

int64_t key_block_bytes(AttentionDType dtype, DType a, const Shape& kv) {
  if (is_fp8(dtype)) return code_bytes(kv) + kAlignment + kv[1] / 2 * kv[2] * size_of(DType::f32);
  return kv.elements() * size_of(dtype_in(dtype, a));
}

AttentionOperands::AttentionOperands(Backend& backend, AttentionDType dtype, ConstView kv)
    : backend_(backend),
      dtype_(dtype),
      kv_(kv.shape()),
      block_dtype_(dtype_in(dtype, kv.dtype())),
      block_shape_(is_fp8(dtype) ? Shape{key_block_bytes(dtype, kv.dtype(), kv_)} : kv_),
      scales_at_(code_bytes(kv_)),
      centre_at_(scales_at_ + kAlignment) {}

AttentionOperands::Queries AttentionOperands::queries(ConstView q) {
  Queries result;
  result.q = q;
  if (block_dtype_ == q.dtype()) return result;
  result.storage = backend_.allocate(block_dtype_, q.shape());
  result.q = result.storage.view();
  if (is_fp8(dtype_)) {
    result.scales = backend_.allocate(DType::f32, {1});
    result.scale = result.scales.view();
    backend_.quantize(q, result.storage, result.scales);
  } else {
    backend_.convert(q, result.storage);
  }
  return result;
}

ConstView AttentionOperands::block(ConstView kv, Tensor& storage) {
  if (block_dtype_ == kv.dtype()) return kv;
  storage = backend_.allocate(block_dtype_, block_shape_);
  if (!is_fp8(dtype_)) {
    backend_.convert(kv, storage);
    return storage.view();
  }
  const View whole = storage.view();
  const View codes(whole.bytes(), DType::e4m3, kv_);
  const int64_t kv_heads = kv_[1] / 2;
  // What fills up the codes and the scales travels, too.
  backend_.fill_zero({whole.bytes() + kv_.elements(), DType::e4m3, {centre_at_ - kv_.elements()}});
  const View centre = centre_of(whole);
  const View scales = scales_of(whole);
  backend_.column_means(kv.slice_columns(0, kv_heads), centre);
  backend_.quantize(kv.slice_columns(0, kv_heads), codes.slice_columns(0, kv_heads),
                    scales.slice_rows(0, 1), centre);
  backend_.quantize(kv.slice_columns(kv_heads, 2 * kv_heads),
                    codes.slice_columns(kv_heads, 2 * kv_heads), scales.slice_rows(1, 2));
  return storage.view();
}

void AttentionOperands::attend(SliceList slices, const Queries& queries, ConstView block,
                               float scale, View out, View lse) {
  const int64_t kv_heads = kv_[1] / 2;
  if (!is_fp8(dtype_)) {
    return backend_.attention_forward(slices, queries.q, block.slice_columns(0, kv_heads),
                                      block.slice_columns(kv_heads, 2 * kv_heads), scale, out, lse);
  }
  if (slices.empty()) return;
  // Log-sum-exps so far are brought to the block's keys, and back.
  const ConstView codes(block.bytes(), DType::e4m3, kv_);
  const ConstView scales = scales_of(block);
  const E4m3View q{queries.q, queries.scale};
  backend_.shift_lse(q, centre_of(block), -scale, lse);
  backend_.attention_forward_e4m3(
      slices, q, {codes.slice_columns(0, kv_heads), scales.slice_rows(0, 1)},
      {codes.slice_columns(kv_heads, 2 * kv_heads), scales.slice_rows(1, 2)}, scale,
      output_of(dtype_), out, lse);
  backend_.shift_lse(q, centre_of(block), scale, lse);
}

}  // namespace ringbolt
