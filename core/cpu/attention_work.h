// What attention's two directions share: checks, scratch memory, and slices sorted by blocks of
// rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/backend/attention_slice.h"
#include "core/cpu/attention_kernels.h"
#include "core/tensor/tensor.h"

namespace ringbolt::cpu {

/// Throws: UsageError where `condition` does not hold; `what` says what must.
void require_attention(bool condition, const char* what);
/// Throws: UsageError unless q (T, H, D), k and v (Tk, K, D) and the slices fit together.
void check_attention(SliceList slices, ConstView q, ConstView k, ConstView v, float scale);

const AttentionKernels& attention_kernels_of(DType dtype, Isa isa);

/// Row 0 of one head of x (T, heads, D).
inline const void* head_of(ConstView x, int64_t head) {
  return x.bytes() + head * x.dim(2) * size_of(x.dtype());
}
inline void* head_of(View x, int64_t head) {
  return x.bytes() + head * x.dim(2) * size_of(x.dtype());
}

/// The slices that meet each block of `block` rows (of queries or of keys), in the order of the
/// list.
class SlicesByBlock {
 public:
  enum class Side { queries, keys };
  SlicesByBlock(SliceList slices, Side side, int64_t rows, int64_t block);

  int64_t blocks() const { return static_cast<int64_t>(first_.size()) - 1; }
  std::span<const KernelSlice> operator[](int64_t block) const;

 private:
  std::vector<int64_t> first_;  // of block b in slices_; one more than blocks
  std::vector<KernelSlice> slices_;
};

}  // namespace ringbolt::cpu
