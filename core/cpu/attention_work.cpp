#include "core/cpu/attention_work.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/cpu/attention.h"

namespace ringbolt::cpu {
namespace {

KernelSlice kernel_slice(const AttentionSlice& s) {
  constexpr int64_t kAll = int64_t{1} << 60;
  const bool causal = s.mask == AttentionSlice::Mask::causal;
  const int64_t shift = causal ? s.key_begin - s.query_begin + s.diagonal + 1 : kAll;
  const int64_t left = s.left_diagonal ? s.key_begin - s.query_begin + *s.left_diagonal + 1 : -kAll;
  return {s.query_begin, s.query_end, s.key_begin, s.key_end, shift, left};
}

}  // namespace

const AttentionKernelSet& attention_kernels(Isa isa) {
#if !defined(RINGBOLT_GENERIC_ONLY)
  switch (isa) {
    case Isa::generic:
      break;
    case Isa::avx2:
      return attention_kernels_avx2();
    case Isa::avx512:
      return attention_kernels_avx512();
    case Isa::avx512_bf16:
      return attention_kernels_avx512_bf16();
  }
#endif
  static_cast<void>(isa);
  return attention_kernels_generic();
}

const AttentionKernels& attention_kernels_of(DType dtype, Isa isa) {
  const AttentionKernelSet& set = attention_kernels(isa);
  if (dtype == DType::e4m3) return set.e4m3;
  return dtype == DType::bf16 ? set.bf16 : set.f32;
}

int64_t attention_workspace_bytes(int64_t head_dim, DType dtype, int threads, Isa isa) {
  const AttentionKernels& kernels = attention_kernels_of(dtype, isa);
  const int d = static_cast<int>(head_dim);
  const int64_t forward = kernels.forward_scratch_bytes(d);
  if (kernels.backward_scratch_bytes == nullptr) return threads * forward;
  return threads * std::max(forward, kernels.backward_scratch_bytes(d));
}

void require_attention(bool condition, const char* what) {
  if (!condition)
    throw UsageError(message("the attention kernels were called wrongly", what,
                             "This is a defect of Ringbolt."));
}

void check_attention(SliceList slices, ConstView q, ConstView k, ConstView v, float scale) {
  require_attention(q.shape().rank() == 3 && k.shape().rank() == 3 && k.shape() == v.shape(),
                    "q, k and v must be (T, heads, D)");
  require_attention(q.dim(2) == k.dim(2) && q.dim(2) % 2 == 0 && q.dim(2) <= 256,
                    "the head dimension must be even, at most 256");
  require_attention(k.dim(1) > 0 && q.dim(1) % k.dim(1) == 0,
                    "key/value heads must divide query heads");
  require_attention(q.dtype() == k.dtype() && q.dtype() == v.dtype() && q.dtype() != DType::i32,
                    "q, k and v must have one dtype");
  require_attention(scale > 0, "the scale must be positive");
  for (const AttentionSlice& s : slices) {
    require_attention(
        0 <= s.query_begin && s.query_end <= q.dim(0) && 0 <= s.key_begin && s.key_end <= k.dim(0),
        "a slice leaves the sequence");
  }
}

SlicesByBlock::SlicesByBlock(SliceList slices, Side side, int64_t rows, int64_t block)
    : first_(static_cast<size_t>((rows + block - 1) / block + 1), 0) {
  const auto for_blocks = [&](const AttentionSlice& s, const auto& body) {
    if (s.queries() <= 0 || s.keys() <= 0) return;
    const int64_t begin = side == Side::queries ? s.query_begin : s.key_begin;
    const int64_t end = side == Side::queries ? s.query_end : s.key_end;
    for (int64_t b = begin / block; b * block < end; ++b) body(static_cast<size_t>(b));
  };
  for (const AttentionSlice& s : slices) for_blocks(s, [&](size_t b) { ++first_[b + 1]; });
  for (size_t b = 1; b < first_.size(); ++b) first_[b] += first_[b - 1];
  slices_.resize(static_cast<size_t>(first_.back()));
  std::vector<int64_t> next = first_;
  for (const AttentionSlice& s : slices) {
    for_blocks(s, [&](size_t b) { slices_[static_cast<size_t>(next[b]++)] = kernel_slice(s); });
  }
}

std::span<const KernelSlice> SlicesByBlock::operator[](int64_t block) const {
  const size_t b = static_cast<size_t>(block);
  return std::span(slices_).subspan(static_cast<size_t>(first_[b]),
                                    static_cast<size_t>(first_[b + 1] - first_[b]));
}

}  // namespace ringbolt::cpu
