#include "parallel/distributed_attention.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "parallel/head_exchange.h"
#include "parallel/sequence_attention.h"

namespace ringbolt {
namespace {

/// `x` itself where it is contiguous, else a copy in `storage`.
ConstView contiguous(Backend& backend, ConstView x, Tensor& storage) {
  if (x.is_contiguous()) return x;
  storage = backend.allocate(x.dtype(), x.shape());
  backend.convert(x, storage);
  return storage.view();
}

/// An f32 result, contiguous: the caller's view itself, or a buffer that finish() rounds into it.
class Sum {
 public:
  Sum(Backend& backend, View result) : backend_(backend), result_(result) {
    if (result.dtype() != DType::f32 || !result.is_contiguous()) {
      storage_ = backend.allocate(DType::f32, result.shape());
    }
  }
  View view() { return storage_.empty() ? result_ : storage_.view(); }
  void finish() {
    if (!storage_.empty()) backend_.convert(storage_, result_);
  }

 private:
  Backend& backend_;
  View result_;
  Tensor storage_;
};

class DistributedAttention final : public Attention {
 public:
  DistributedAttention(Backend& backend, Communicator& head,
                       std::unique_ptr<SequenceAttention> sequence)
      : backend_(backend), head_(head), sequence_(std::move(sequence)) {}

  void forward(int64_t, ConstView q, ConstView kv, View out, View lse) override {
    if (head_.size() == 1) {
      Tensor copy;
      sequence_->forward(q, contiguous(backend_, kv, copy), out, lse);
      return;
    }
    HeadExchange exchange(backend_, head_, q.dim(1), kv.dim(1) / 2);
    const Tensor my_q = exchange.queries_in(q);
    const Tensor my_kv = exchange.keys_in(kv);
    Tensor my_out = backend_.allocate(out.dtype(), my_q.shape());
    Tensor my_lse = backend_.allocate(DType::f32, {my_q.shape()[0], my_q.shape()[1]});
    sequence_->forward(my_q, my_kv, my_out, my_lse);
    exchange.queries_out(my_out, out);
    exchange.queries_out(my_lse, lse);
  }

  void backward(int64_t, ConstView q, ConstView kv, ConstView dout, ConstView out, ConstView lse,
                View dq, View dkv) override {
    Tensor delta = backend_.allocate(DType::f32, lse.shape());
    backend_.attention_delta(dout, out, delta);
    if (head_.size() > 1) return backward_by_heads(q, kv, dout, lse, delta, dq, dkv);
    Tensor copy;
    Sum dq_sum(backend_, dq);
    Sum dkv_sum(backend_, dkv);
    sequence_->backward(q, contiguous(backend_, kv, copy), dout, lse, delta, dq_sum.view(),
                        dkv_sum.view());
    dq_sum.finish();
    dkv_sum.finish();
  }

 private:
  void backward_by_heads(ConstView q, ConstView kv, ConstView dout, ConstView lse, ConstView delta,
                         View dq, View dkv) {
    HeadExchange exchange(backend_, head_, q.dim(1), kv.dim(1) / 2);
    const Tensor my_q = exchange.queries_in(q);
    const Tensor my_kv = exchange.keys_in(kv);
    const Tensor my_dout = exchange.queries_in(dout);
    const Tensor my_lse = exchange.queries_in(lse);
    const Tensor my_delta = exchange.queries_in(delta);
    Tensor my_dq = backend_.allocate(dq.dtype(), my_q.shape());
    Tensor my_dkv = backend_.allocate(DType::f32, my_kv.shape());
    Sum dq_sum(backend_, my_dq);
    sequence_->backward(my_q, my_kv, my_dout, my_lse, my_delta, dq_sum.view(), my_dkv);
    dq_sum.finish();
    exchange.queries_out(my_dq, dq);
    exchange.keys_out(my_dkv, dkv);
  }

  Backend& backend_;
  Communicator& head_;
  std::unique_ptr<SequenceAttention> sequence_;
};

/// Bytes a rank receives over the ring positions, for T rows and the heads of one head rank.
AttentionBytes ring_bytes(int64_t others, int64_t rows, const AttentionProblem& heads,
                          const AttentionChoice& choice) {
  const int64_t element = size_of(heads.dtype);
  const int64_t f32 = size_of(DType::f32);
  const int64_t query = rows * heads.heads * heads.head_dim;       // elements of q
  const int64_t key = rows * 2 * heads.kv_heads * heads.head_dim;  // of k and v
  const bool queries =
      choice.strategy != AttentionStrategy::all_gather && choice.backward == RingBackward::queries;
  // A block, and the f32 sum that follows it.
  const int64_t backward = queries
                               ? 2 * query * element + 2 * rows * heads.heads * f32 + query * f32
                               : key * element + key * f32;
  const AttentionDType travels =
      choice.strategy == AttentionStrategy::all_gather ? AttentionDType::model : choice.dtype;
  const int64_t block =
      key_block_bytes(travels, heads.dtype, {rows, 2 * heads.kv_heads, heads.head_dim});
  return {others * block, others * backward};
}

}  // namespace

std::unique_ptr<Attention> make_distributed_attention(Backend& backend, Mesh& mesh,
                                                      const SequenceLayout& layout,
                                                      AttentionSlice::Mask mask,
                                                      const AttentionChoice& choice,
                                                      const Visibility& visibility) {
  const MeshShape& shape = mesh.shape();
  if (layout.ranks() != shape.ring() || layout.tokens_per_rank() % shape.head != 0) {
    throw UsageError(
        message(concat("a layout of ", layout.ranks(), " x ", layout.tokens_per_rank(),
                       " tokens does not fit ", shape.ring(), " ring positions of ", shape.head,
                       " head ranks"),
                "each ring position holds T tokens, its head ranks equal parts of them",
                "This is a defect of Ringbolt."));
  }
  std::unique_ptr<SequenceAttention> sequence =
      choice.strategy == AttentionStrategy::all_gather && shape.ring() > 1
          ? make_gathered_attention(backend, mesh, layout, mask, choice.dtype, visibility)
          : make_ring_attention(backend, mesh, layout, mask, choice, visibility);
  return std::make_unique<DistributedAttention>(backend, mesh.head(), std::move(sequence));
}

AttentionBytes attention_bytes(const MeshShape& mesh, const AttentionProblem& problem,
                               const AttentionChoice& choice) {
  const int64_t ranks = mesh.head;
  AttentionProblem mine = problem;
  mine.heads = problem.heads / ranks;
  mine.kv_heads = std::max<int64_t>(1, problem.kv_heads / ranks);
  const bool replicated = problem.kv_heads < ranks;
  AttentionBytes bytes = ring_bytes(mesh.ring() - 1, problem.tokens_per_rank * ranks, mine, choice);
  // What the head ranks trade, a row from each of the others.
  const int64_t element = size_of(problem.dtype);
  const int64_t f32 = size_of(DType::f32);
  const int64_t query = mine.heads * mine.head_dim;
  const int64_t key = 2 * mine.kv_heads * mine.head_dim;
  const int64_t rows = (ranks - 1) * problem.tokens_per_rank;
  bytes.forward += rows * ((2 * query + key) * element + mine.heads * f32);  // q, kv; out, lse
  bytes.backward +=
      rows * ((2 * query + key) * element + 2 * mine.heads * f32);  // q, kv, dout, lse, delta
  bytes.backward += rows * (query * element + key * (replicated ? f32 : element));  // dq, dkv
  return bytes;
}

}  // namespace ringbolt
