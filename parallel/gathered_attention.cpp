#include <vector>

#include "parallel/ring.h"
#include "parallel/sequence_attention.h"

namespace ringbolt {
namespace {

class GatheredAttention final : public SequenceAttention {
 public:
  GatheredAttention(Backend& backend, Mesh& mesh, const SequenceLayout& layout,
                    AttentionSlice::Mask mask, AttentionDType dtype, const Visibility& visibility)
      : backend_(backend), ring_(mesh.ring()), rows_(layout.tokens_per_rank()), dtype_(dtype) {
    for (int rank = 0; rank < layout.ranks(); ++rank) {
      for (AttentionSlice slice : layout.slices(mesh.ring_rank(), rank, mask, visibility)) {
        slice.key_begin += rank * rows_;
        slice.key_end += rank * rows_;
        slices_.push_back(slice);
      }
      const auto segments = layout.segments(rank);
      used_rows_.push_back(segments.empty() ? 0 : segments.back().local + segments.back().count);
    }
  }

  void forward(ConstView q, ConstView kv, View out, View lse) override {
    // Another type comes after the transfer: codes have one scale, that of all ranks' rows.
    const Tensor all = gather(kv);
    AttentionOperands operands(backend_, dtype_, all);
    const AttentionOperands::Queries queries = operands.queries(q);
    Tensor storage;
    const ConstView block = operands.block(all, storage);
    backend_.begin_attention(out, lse);
    operands.attend(slices_, queries, block, attention_scale(q.dim(2)), out, lse);
  }

  void backward(ConstView q, ConstView kv, ConstView dout, ConstView lse, ConstView delta, View dq,
                View dkv) override {
    require_backward(dtype_);
    const Tensor all = gather(kv);
    const int64_t kv_heads = kv.dim(1) / 2;
    Tensor sums = backend_.allocate(DType::f32, all.shape());
    backend_.fill_zero(sums);
    backend_.fill_zero(dq);
    backend_.attention_backward(slices_, q, all.view().slice_columns(0, kv_heads),
                                all.view().slice_columns(kv_heads, 2 * kv_heads), dout, lse, delta,
                                attention_scale(q.dim(2)), dq,
                                sums.view().slice_columns(0, kv_heads),
                                sums.view().slice_columns(kv_heads, 2 * kv_heads));
    ring_.reduce_scatter({sums.view().data<float>(), static_cast<size_t>(sums.shape().elements())},
                         {dkv.data<float>(), static_cast<size_t>(dkv.elements())});
  }

 private:
  /// (P T, 2K, D): k and v of all ranks. Padding is zeroed: a kernel that reads a whole tile
  /// multiplies it by zero.
  Tensor gather(ConstView kv) {
    const auto ranks = static_cast<int64_t>(used_rows_.size());
    Tensor all = backend_.allocate(kv.dtype(), kv.shape().with_rows(ranks * rows_));
    ring_.all_gather(bytes_of(kv), bytes_of(all.view()));
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const int64_t used = used_rows_[static_cast<size_t>(rank)];
      if (used < rows_)
        backend_.fill_zero(all.view().slice_rows(rank * rows_ + used, (rank + 1) * rows_));
    }
    return all;
  }

  Backend& backend_;
  Communicator& ring_;
  int64_t rows_;  // T
  AttentionDType dtype_;
  std::vector<AttentionSlice> slices_;
  std::vector<int64_t> used_rows_;  // of each rank, without padding
};

}  // namespace

std::unique_ptr<SequenceAttention> make_gathered_attention(Backend& backend, Mesh& mesh,
                                                           const SequenceLayout& layout,
                                                           AttentionSlice::Mask mask,
                                                           AttentionDType dtype,
                                                           const Visibility& visibility) {
  return std::make_unique<GatheredAttention>(backend, mesh, layout, mask, dtype, visibility);
}

}  // namespace ringbolt
