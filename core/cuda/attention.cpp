#include "core/cuda/attention.h"

#include <algorithm>
#include <initializer_list>

#include "core/base/error.h"
#include "core/cuda/index.h"
#include "core/cuda/rowwise.h"

namespace ringbolt::cuda {
namespace {

int64_t bytes_of(DType dtype, int64_t elements) { return elements * size_of(dtype); }

bool is_aligned(ConstView x) {
  const auto address = reinterpret_cast<uint64_t>(x.bytes());
  return address % kAccessBytes == 0 && x.row_stride() * size_of(x.dtype()) % kAccessBytes == 0;
}

bool all_aligned(std::initializer_list<ConstView> views) {
  return std::all_of(views.begin(), views.end(), is_aligned);
}

void require(bool condition, const char* what) {
  if (!condition) {
    throw UsageError(message("the attention kernels were called wrongly", what,
                             "This is a defect of Ringbolt."));
  }
}

void check_attention(SliceList slices, ConstView q, ConstView k, ConstView v, float scale) {
  require(q.shape().rank() == 3 && k.shape().rank() == 3 && k.shape() == v.shape(),
          "q, k and v must be (T, heads, D)");
  require(q.dim(2) == k.dim(2) && q.dim(2) % 2 == 0 && q.dim(2) <= 256,
          "the head dimension must be even, at most 256");
  require(k.dim(1) > 0 && q.dim(1) % k.dim(1) == 0, "key/value heads must divide query heads");
  require(q.dtype() == k.dtype() && q.dtype() == v.dtype() && q.dtype() != DType::i32,
          "q, k and v must have one dtype");
  require(scale > 0, "the scale must be positive");
  for (const AttentionSlice& s : slices) {
    require(
        0 <= s.query_begin && s.query_end <= q.dim(0) && 0 <= s.key_begin && s.key_end <= k.dim(0),
        "a slice leaves the sequence");
  }
}

/// The strides of a piece's rows in a view; a single sequence has a batch stride that no other
/// could have.
RowStrides strides_of(ConstView x, int64_t rows, int64_t step, int64_t batch) {
  return {x.row_stride(), (batch == 1 ? rows : step) * x.row_stride()};
}

RowStrides packed_strides(ConstView x, int64_t rows) {
  return {x.row_elements(), rows * x.row_elements()};
}

/// Row `row` of a view, as cuDNN takes it.
const void* at(ConstView x, int64_t row) {
  return x.bytes() + row * x.row_stride() * size_of(x.dtype());
}

AttentionGraph graph_of(const AttentionWork& work, const AttentionInputs& in, Direction direction) {
  const AttentionPiece& p = work.piece;
  AttentionGraph g;
  g.direction = direction;
  g.dtype = in.q.dtype();
  g.batch = p.batch;
  g.queries = work.graph_queries;
  g.keys = work.graph_keys;
  g.heads = in.q.dim(1);
  g.kv_heads = in.k.dim(1);
  g.head_dim = in.q.dim(2);
  g.causal = p.causal;
  g.padded = work.padded;
  g.scale = in.scale;
  if (work.padded) {
    g.q = packed_strides(in.q, g.queries);
    g.k = packed_strides(in.k, g.keys);
    g.v = g.k;
  } else {
    g.q = strides_of(in.q, g.queries, p.query_step, p.batch);
    g.k = strides_of(in.k, g.keys, p.key_step, p.batch);
    g.v = strides_of(in.v, g.keys, p.key_step, p.batch);
  }
  return g;
}

/// A piece's rows of an operand, in place, or, padded, copied into a zero-filled buffer of the
/// graph's length.
class Operands {
 public:
  Operands(cudaStream_t stream, Memory& memory, const AttentionWork& work)
      : stream_(stream), memory_(memory), work_(work) {
    if (!work.padded) return;
    lengths_ = std::make_unique<Scratch>(memory, bytes_of(DType::i32, 2 * work.piece.batch));
    fill_lengths(stream, work.piece, lengths_->as<int32_t>());
  }

  const void* of_queries(ConstView x) {
    const AttentionPiece& p = work_.piece;
    return of(x, p.query_begin, p.queries, p.query_step, work_.graph_queries);
  }
  const void* of_keys(ConstView x) {
    const AttentionPiece& p = work_.piece;
    return of(x, p.key_begin, p.keys, p.key_step, work_.graph_keys);
  }
  const int32_t* lengths() const { return lengths_ ? lengths_->as<int32_t>() : nullptr; }

 private:
  const void* of(ConstView x, int64_t begin, int64_t count, int64_t step, int64_t rows) {
    if (!work_.padded) return at(x, begin);
    const Shape shape{work_.piece.batch * rows, x.dim(1), x.dim(2)};
    buffers_.emplace_back(memory_, bytes_of(x.dtype(), shape.elements()));
    pack_rows(stream_, x, begin, count, step, work_.piece.batch, rows,
              View(buffers_.back().as<std::byte>(), x.dtype(), shape));
    return buffers_.back().as<void>();
  }

  cudaStream_t stream_;
  Memory& memory_;
  const AttentionWork& work_;
  std::unique_ptr<Scratch> lengths_;
  std::vector<Scratch> buffers_;
};

}  // namespace

CudnnAttention& Attention::cudnn() {
  if (cudnn_ == nullptr) cudnn_ = std::make_unique<CudnnAttention>(stream_, memory_, device_.arch);
  return *cudnn_;
}

// --- forward -------------------------------------------------------------------------------------

void Attention::forward(SliceList slices, ConstView q, ConstView k, ConstView v, float scale,
                        View out, View lse) {
  check_attention(slices, q, k, v, scale);
  require(out.shape() == q.shape() && lse.shape() == Shape({q.dim(0), q.dim(1)}),
          "out and lse must have q's rows and heads");
  const AttentionInputs in{q, k, v, scale};
  const auto work = attention_work(slices, Direction::forward,
                                   {q.dtype(), q.dim(2), device_.arch, all_aligned({q, k, v})});
  if (work.empty() || q.empty() || k.empty()) return;
  join(work, out,
       [&](const AttentionWork& w, bool alone, View to) { run_forward(w, in, alone, to, lse); });
}

// Rows that occur once are written as they are. Others are joined in f32, and rounded once where
// out is bf16.
template <class Run>
void Attention::join(const std::vector<AttentionWork>& work, View out, const Run& run) {
  const bool alone = rows_are_disjoint(work);
  if (alone || out.dtype() == DType::f32) {
    for (const AttentionWork& w : work) run(w, alone && out.dtype() == DType::bf16, out);
    return;
  }
  const Scratch sum_memory(memory_, bytes_of(DType::f32, out.elements()));
  const View sum(sum_memory.as<std::byte>(), DType::f32, out.shape());
  for (const AttentionWork& w : work) run(w, false, sum);
  for (const AttentionWork& w : work) {
    for (int64_t b = 0; b < w.piece.batch; ++b) {
      const int64_t begin = w.piece.query_begin + b * w.piece.query_step;
      convert(stream_, sum.slice_rows(begin, begin + w.piece.queries),
              out.slice_rows(begin, begin + w.piece.queries));
    }
  }
}

void Attention::run_forward(const AttentionWork& work, const AttentionInputs& in, bool alone,
                            View out, View lse) {
  if (work.engine == Engine::cudnn) return forward_by_cudnn(work, in, alone, out, lse);
  const int64_t chunks = key_chunks(work.piece, in.q.dim(1), in.k.dim(1), device_.multiprocessors);
  if (chunks == 1) return own_attention_forward(stream_, work.piece, in, out, lse);
  forward_by_chunks(work.piece, in, chunks, out, lse);
}

void Attention::forward_by_chunks(const AttentionPiece& piece, const AttentionInputs& in,
                                  int64_t chunks, View out, View lse) {
  const int64_t rows = chunks * piece.batch * piece.queries;
  const Shape shape{rows, in.q.dim(1), in.q.dim(2)};
  const Scratch out_memory(memory_, bytes_of(DType::f32, shape.elements()));
  const Scratch lse_memory(memory_, bytes_of(DType::f32, rows * in.q.dim(1)));
  const View partial(out_memory.as<std::byte>(), DType::f32, shape);
  own_attention_chunks(stream_, piece, in, chunks, partial, lse_memory.as<float>());
  merge_attention(stream_, piece, {partial, lse_memory.as<float>(), chunks, piece.queries, false},
                  out, lse);
}

void Attention::forward_by_cudnn(const AttentionWork& work, const AttentionInputs& in, bool alone,
                                 View out, View lse) {
  const AttentionPiece& p = work.piece;
  AttentionGraph graph = graph_of(work, in, Direction::forward);
  Operands operands(stream_, memory_, work);
  const Scratch stats(memory_, bytes_of(DType::f32, graph.batch * graph.heads * graph.queries));
  AttentionMemory pointers;
  pointers.q = operands.of_queries(in.q);
  pointers.k = operands.of_keys(in.k);
  pointers.v = operands.of_keys(in.v);
  pointers.stats = stats.as<float>();
  pointers.lengths = operands.lengths();
  if (alone && !work.padded && is_aligned(out)) {
    graph.out = strides_of(out, p.queries, p.query_step, p.batch);
    pointers.out = out.slice_rows(p.query_begin, out.rows()).bytes();
    cudnn().run(graph, pointers);
    return store_stats(stream_, p, stats.as<float>(), lse);
  }
  const Shape shape{graph.batch * graph.queries, graph.heads, graph.head_dim};
  const Scratch block(memory_, bytes_of(DType::bf16, shape.elements()));
  const View block_out(block.as<std::byte>(), DType::bf16, shape);
  graph.out = packed_strides(block_out, graph.queries);
  pointers.out = block.as<void>();
  cudnn().run(graph, pointers);
  merge_attention(stream_, p, {block_out, stats.as<float>(), 1, graph.queries, true}, out, lse);
}

// --- forward in E4M3 -----------------------------------------------------------------------------

void Attention::forward_e4m3(SliceList slices, const E4m3View& q, const E4m3View& k,
                             const E4m3View& v, float scale, E4m3Output output, View out,
                             View lse) {
  check_attention(slices, q.codes, k.codes, v.codes, scale);
  require(out.shape() == q.codes.shape() && lse.shape() == Shape({out.dim(0), out.dim(1)}),
          "out and lse must have q's rows and heads");
  const E4m3Inputs in{q, k, v, scale, output};
  const auto work = attention_work(
      slices, Direction::forward,
      {DType::e4m3, out.dim(2), device_.arch, all_aligned({q.codes, k.codes, v.codes})});
  if (work.empty() || q.codes.empty() || k.codes.empty()) return;
  join(work, out, [&](const AttentionWork& w, bool, View to) {
    if (w.engine == Engine::cudnn) return forward_e4m3_by_cudnn(w, in, to, lse);
    forward_e4m3_in_bf16(w.piece, in, to, lse);
  });
}

void Attention::forward_e4m3_by_cudnn(const AttentionWork& work, const E4m3Inputs& in, View out,
                                      View lse) {
  const AttentionInputs codes{in.q.codes, in.k.codes, in.v.codes, in.scale};
  AttentionGraph graph = graph_of(work, codes, Direction::forward);
  graph.out_dtype = in.output == E4m3Output::rounded ? DType::e4m3 : DType::bf16;
  Operands operands(stream_, memory_, work);
  const Scratch stats(memory_, bytes_of(DType::f32, graph.batch * graph.heads * graph.queries));
  const Scratch scales(memory_, bytes_of(DType::f32, (kFp8Scales + 2) * kFp8ScaleStep));
  fill_fp8_scales(stream_, in.q, in.k, in.v, scales.as<float>());
  const Shape shape{graph.batch * graph.queries, graph.heads, graph.head_dim};
  const Scratch block(memory_, bytes_of(graph.out_dtype, shape.elements()));
  const View block_out(block.as<std::byte>(), graph.out_dtype, shape);
  graph.out = packed_strides(block_out, graph.queries);
  AttentionMemory pointers;
  pointers.q = operands.of_queries(codes.q);
  pointers.k = operands.of_keys(codes.k);
  pointers.v = operands.of_keys(codes.v);
  pointers.out = block.as<void>();
  pointers.stats = stats.as<float>();
  pointers.scales = scales.as<float>();
  pointers.largest = scales.as<float>() + kFp8Scales * kFp8ScaleStep;
  pointers.lengths = operands.lengths();
  cudnn().run(graph, pointers);
  merge_attention(stream_, work.piece,
                  {block_out, stats.as<float>(), 1, graph.queries, true, in.v.scale.data<float>()},
                  out, lse);
}

/// The piece's rows as bf16, which holds them exactly, by our own kernels; weights are not rounded.
void Attention::forward_e4m3_in_bf16(const AttentionPiece& piece, const E4m3Inputs& in, View out,
                                     View lse) {
  AttentionPiece packed = piece;
  packed.query_begin = packed.key_begin = 0;
  packed.query_step = piece.queries;
  packed.key_step = piece.keys;
  const auto rows_of = [&](const E4m3View& x, int64_t rows) {
    return Shape{piece.batch * rows, x.codes.dim(1), x.codes.dim(2)};
  };
  const Shape of_queries = rows_of(in.q, piece.queries);
  const Shape of_keys = rows_of(in.k, piece.keys);
  const Scratch q(memory_, bytes_of(DType::bf16, of_queries.elements()));
  const Scratch k(memory_, bytes_of(DType::bf16, of_keys.elements()));
  const Scratch v(memory_, bytes_of(DType::bf16, of_keys.elements()));
  const auto widen = [&](const E4m3View& x, int64_t begin, int64_t count, int64_t step,
                         const Scratch& to, const Shape& shape) {
    const View view(to.as<std::byte>(), DType::bf16, shape);
    dequantize_rows(stream_, x, begin, count, step, piece.batch, view);
    return ConstView(view);
  };
  const AttentionInputs wide{
      widen(in.q, piece.query_begin, piece.queries, piece.query_step, q, of_queries),
      widen(in.k, piece.key_begin, piece.keys, piece.key_step, k, of_keys),
      widen(in.v, piece.key_begin, piece.keys, piece.key_step, v, of_keys), in.scale};
  const int64_t chunks = key_chunks(piece, of_queries[1], of_keys[1], device_.multiprocessors);
  const int64_t rows = chunks * piece.batch * piece.queries;
  const Shape shape{rows, of_queries[1], of_queries[2]};
  const Scratch out_memory(memory_, bytes_of(DType::f32, shape.elements()));
  const Scratch lse_memory(memory_, bytes_of(DType::f32, rows * of_queries[1]));
  const View partial(out_memory.as<std::byte>(), DType::f32, shape);
  if (chunks == 1) {
    const View lse_of_rows(lse_memory.as<std::byte>(), DType::f32, {rows, of_queries[1]});
    begin_attention(stream_, partial, lse_of_rows);
    own_attention_forward(stream_, packed, wide, partial, lse_of_rows);
  } else {
    own_attention_chunks(stream_, packed, wide, chunks, partial, lse_memory.as<float>());
  }
  merge_attention(stream_, piece, {partial, lse_memory.as<float>(), chunks, piece.queries, false},
                  out, lse);
}

// --- backward ------------------------------------------------------------------------------------

void Attention::backward(SliceList slices, ConstView q, ConstView k, ConstView v, ConstView dout,
                         ConstView lse, ConstView delta, float scale, View dq, View dk, View dv) {
  check_attention(slices, q, k, v, scale);
  require(dout.shape() == q.shape() && dq.shape() == q.shape() && dk.shape() == k.shape() &&
              dv.shape() == k.shape(),
          "gradients must have the shapes of what they are of");
  const AttentionInputs in{q, k, v, scale};
  const AttentionTraits traits{q.dtype(), q.dim(2), device_.arch, all_aligned({q, k, v, dout})};
  if (q.empty() || k.empty()) return;
  for (const AttentionWork& w : attention_work(slices, Direction::backward, traits)) {
    if (w.engine == Engine::cudnn) {
      backward_by_cudnn(w, in, dout, lse, delta, {dq, dk, dv});
    } else {
      own_attention_backward(stream_, w.piece, in, dout, lse, delta, dq, dk, dv);
    }
  }
}

void Attention::backward_by_cudnn(const AttentionWork& work, const AttentionInputs& in,
                                  ConstView dout, ConstView lse, ConstView delta,
                                  const Sums& sums) {
  const AttentionPiece& p = work.piece;
  AttentionGraph graph = graph_of(work, in, Direction::backward);
  graph.dout = work.padded ? packed_strides(dout, graph.queries)
                           : strides_of(dout, p.queries, p.query_step, p.batch);
  const Shape of_queries{graph.batch * graph.queries, graph.heads, graph.head_dim};
  const Shape of_keys{graph.batch * graph.keys, graph.kv_heads, graph.head_dim};
  Operands operands(stream_, memory_, work);
  const Scratch stats(memory_, bytes_of(DType::f32, graph.batch * graph.heads * graph.queries));
  const Scratch out(memory_, bytes_of(DType::bf16, of_queries.elements()));
  const Scratch dq(memory_, bytes_of(DType::bf16, of_queries.elements()));
  const Scratch dk(memory_, bytes_of(DType::bf16, of_keys.elements()));
  const Scratch dv(memory_, bytes_of(DType::bf16, of_keys.elements()));
  load_stats(stream_, p, lse, graph.queries, stats.as<float>());
  output_of_delta(stream_, p, dout, delta, graph.queries,
                  View(out.as<std::byte>(), DType::bf16, of_queries));
  AttentionMemory pointers;
  pointers.q = operands.of_queries(in.q);
  pointers.k = operands.of_keys(in.k);
  pointers.v = operands.of_keys(in.v);
  pointers.dout = operands.of_queries(dout);
  pointers.lengths = operands.lengths();
  pointers.out = out.as<void>();
  pointers.stats = stats.as<float>();
  pointers.dq = dq.as<void>();
  pointers.dk = dk.as<void>();
  pointers.dv = dv.as<void>();
  cudnn().run(graph, pointers);
  const auto add = [&](const Scratch& from, const Shape& shape, int64_t begin, int64_t count,
                       int64_t step, int64_t rows, View sum) {
    add_rows(stream_, View(from.as<std::byte>(), DType::bf16, shape), begin, count, step, p.batch,
             rows, sum);
  };
  add(dq, of_queries, p.query_begin, p.queries, p.query_step, graph.queries, sums.dq);
  add(dk, of_keys, p.key_begin, p.keys, p.key_step, graph.keys, sums.dk);
  add(dv, of_keys, p.key_begin, p.keys, p.key_step, graph.keys, sums.dv);
}

}  // namespace ringbolt::cuda
