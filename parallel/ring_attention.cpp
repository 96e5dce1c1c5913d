#include <utility>
#include <vector>

#include "parallel/ring.h"
#include "parallel/sequence_attention.h"

namespace ringbolt {
namespace {

using Slices = std::vector<AttentionSlice>;

/// k and v of a kv view (T, 2K, D).
ConstView keys_of(ConstView kv) { return kv.slice_columns(0, kv.dim(1) / 2); }
ConstView values_of(ConstView kv) { return kv.slice_columns(kv.dim(1) / 2, kv.dim(1)); }
View keys_of(View kv) { return kv.slice_columns(0, kv.dim(1) / 2); }
View values_of(View kv) { return kv.slice_columns(kv.dim(1) / 2, kv.dim(1)); }

/// What travels when the query side does: lse, delta, q and dout behind one another in one message.
class QueryBlock {
 public:
  explicit QueryBlock(ConstView q)
      : rows_({q.dim(0), q.dim(1)}),
        operand_(q.shape()),
        dtype_(q.dtype()),
        statistic_bytes_(rows_.elements() * size_of(DType::f32)),
        operand_bytes_(q.bytes_needed()) {}

  /// In f32 elements; D is even, so bf16 operands fill them.
  Shape shape() const {
    return {(2 * statistic_bytes_ + 2 * operand_bytes_) / size_of(DType::f32)};
  }

  struct Parts {
    ConstView q, dout, lse, delta;
  };
  Parts parts(ConstBytes block) const {
    const std::byte* operands = block.data() + 2 * statistic_bytes_;
    return {{operands, dtype_, operand_},
            {operands + operand_bytes_, dtype_, operand_},
            {block.data(), DType::f32, rows_},
            {block.data() + statistic_bytes_, DType::f32, rows_}};
  }

  Tensor pack(Backend& backend, const Parts& from) const {
    Tensor block = backend.allocate(DType::f32, shape());
    std::byte* to = block.view().bytes();
    backend.convert(from.lse, View(to, DType::f32, rows_));
    backend.convert(from.delta, View(to + statistic_bytes_, DType::f32, rows_));
    to += 2 * statistic_bytes_;
    backend.convert(from.q, View(to, dtype_, operand_));
    backend.convert(from.dout, View(to + operand_bytes_, dtype_, operand_));
    return block;
  }

 private:
  Shape rows_;     // (T, H)
  Shape operand_;  // (T, H, D)
  DType dtype_;
  int64_t statistic_bytes_;
  int64_t operand_bytes_;
};

/// Two rings, one inside the other; a single ring is the inner one of an outer ring of one.
class RingAttention final : public SequenceAttention {
 public:
  RingAttention(Backend& backend, Mesh& mesh, const SequenceLayout& layout,
                AttentionSlice::Mask mask, const AttentionChoice& choice,
                const Visibility& visibility)
      : backend_(backend),
        alone_(make_single_communicator()),
        outer_(choice.strategy == AttentionStrategy::double_ring ? mesh.outer() : *alone_),
        inner_(choice.strategy == AttentionStrategy::double_ring ? mesh.inner() : mesh.ring()),
        circulate_(choice.backward),
        dtype_(choice.dtype) {
    const int me = mesh.ring_rank();
    for (int other = 0; other < layout.ranks(); ++other) {
      by_keys_.push_back(layout.slices(me, other, mask, visibility));
      const Slices backward = circulate_ == RingBackward::keys
                                  ? by_keys_.back()
                                  : layout.slices(other, me, mask, visibility);
      // What the inner ring begins with, a rank does by halves: the second one beside the last sum.
      const bool begins = inner_.size() > 1 && other % inner_.size() == inner_.rank();
      backward_.push_back(begins ? halves(backward) : std::pair(backward, Slices()));
    }
  }

  void forward(ConstView q, ConstView kv, View out, View lse) override {
    // A result that goes on is f32; one call's result is rounded by the kernel itself.
    const bool direct = out.dtype() == DType::f32 || by_keys_.size() == 1;
    Tensor running = direct ? Tensor() : backend_.allocate(DType::f32, out.shape());
    const View result = direct ? out : running.view();
    AttentionOperands operands(backend_, dtype_, kv);
    const AttentionOperands::Queries queries = operands.queries(q);
    Tensor storage;
    const ConstView own = operands.block(kv, storage);
    backend_.begin_attention(result, lse);
    Overlap overlap(backend_);
    BlockBuffers outer_blocks(backend_, outer_, own.dtype(), own.shape());
    BlockBuffers inner_blocks(backend_, inner_, own.dtype(), own.shape());
    ring_visit(
        outer_, overlap, bytes_of(own), outer_blocks, [&](int, int node, ConstBytes of_node) {
          ring_visit(inner_, overlap, of_node, inner_blocks, [&](int, int rank, ConstBytes bytes) {
            const ConstView block(bytes.data(), own.dtype(), own.shape());
            operands.attend(by_keys_[position(node, rank)], queries, block,
                            attention_scale(q.dim(2)), result, lse);
          });
        });
    if (!direct) backend_.convert(result, out);
  }

  void backward(ConstView q, ConstView kv, ConstView dout, ConstView lse, ConstView delta, View dq,
                View dkv) override {
    require_backward(dtype_);
    const float scale = attention_scale(q.dim(2));
    if (circulate_ == RingBackward::keys) {
      backend_.fill_zero(dq);
      const auto share = [&](SliceList slices, ConstBytes bytes, View sum) {
        const ConstView block(bytes.data(), kv.dtype(), kv.shape());
        backend_.attention_backward(slices, q, keys_of(block), values_of(block), dout, lse, delta,
                                    scale, dq, keys_of(sum), values_of(sum));
      };
      accumulate(kv, dkv, share);
    } else {
      backend_.fill_zero(dkv);
      const QueryBlock layout(q);
      const Tensor own = layout.pack(backend_, {q, dout, lse, delta});
      const auto share = [&](SliceList slices, ConstBytes bytes, View sum) {
        const QueryBlock::Parts block = layout.parts(bytes);
        backend_.attention_backward(slices, block.q, keys_of(kv), values_of(kv), block.dout,
                                    block.lse, block.delta, scale, sum, keys_of(dkv),
                                    values_of(dkv));
      };
      accumulate(own, dq, share);
    }
  }

 private:
  /// `sum` (f32) ends as the sum of what all ranks add to it in share(slices, block, sum) for this
  /// rank's `own`.
  template <class Share>
  void accumulate(ConstView own, View sum, const Share& share) {
    Overlap overlap(backend_);
    BlockBuffers outer_blocks(backend_, outer_, own.dtype(), own.shape());
    BlockBuffers inner_blocks(backend_, inner_, own.dtype(), own.shape());
    SumBuffers outer_sums(backend_, outer_, sum.shape());
    SumBuffers inner_sums(backend_, inner_, sum.shape());
    const auto inner_ring = [&](int node, ConstBytes of_node, View node_sum) {
      ring_accumulate(
          inner_, overlap, backend_, of_node, inner_blocks, node_sum, inner_sums,
          [&](int rank, ConstBytes block, View rank_sum) {
            share(backward_[position(node, rank)].first, block, rank_sum);
          },
          [&](ConstBytes block, View home) {
            share(backward_[position(node, inner_.rank())].second, block, home);
          });
    };
    ring_accumulate(outer_, overlap, backend_, bytes_of(own), outer_blocks, sum, outer_sums,
                    inner_ring, [](ConstBytes, View) {});
  }

  size_t position(int node, int rank) const {
    return static_cast<size_t>(node) * static_cast<size_t>(inner_.size()) +
           static_cast<size_t>(rank);
  }

  Backend& backend_;
  std::unique_ptr<Communicator> alone_;
  Communicator& outer_;
  Communicator& inner_;
  RingBackward circulate_;
  AttentionDType dtype_;
  // By ring position, of my queries and its keys; in backward, of what circulates and what stays,
  // the second of each pair for the end of the inner ring.
  std::vector<Slices> by_keys_;
  std::vector<std::pair<Slices, Slices>> backward_;
};

}  // namespace

std::unique_ptr<SequenceAttention> make_ring_attention(Backend& backend, Mesh& mesh,
                                                       const SequenceLayout& layout,
                                                       AttentionSlice::Mask mask,
                                                       const AttentionChoice& choice,
                                                       const Visibility& visibility) {
  return std::make_unique<RingAttention>(backend, mesh, layout, mask, choice, visibility);
}

}  // namespace ringbolt
