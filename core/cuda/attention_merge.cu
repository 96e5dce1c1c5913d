// What joins cuDNN's blocks, and our split keys, to the running attention; and what brings operands
// into cuDNN's layouts.
#include <limits>
#include <type_traits>

#include "core/cuda/attention_kernels.h"
#include "core/cuda/device.cuh"

namespace ringbolt::cuda {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kNoKeys =
    1e30F;  ///< a log-sum-exp beside which every weight is 0, and finite in base 2, too

/// Rows of a piece: number r of batch b is `begin + b step + r` of the sequence.
struct RowMap {
  int64_t begin, count, step, batch;
  __device__ int64_t row(int64_t b, int64_t r) const { return begin + b * step + r; }
};

RowMap query_map(const AttentionPiece& p) {
  return {p.query_begin, p.queries, p.query_step, p.batch};
}

// --- merging -------------------------------------------------------------------------------------

template <class Part>
struct Parts {
  Rows<const Part> out;
  const float* lse;
  int64_t parts, rows;
  bool lse_by_head;
  const float* scale;  ///< of e4m3 only

  __device__ int64_t slot(int64_t part, int64_t b, int64_t batch, int64_t r) const {
    return (part * batch + b) * rows + r;
  }
  __device__ float lse_at(int64_t part, int64_t b, int64_t batch, int64_t r, int64_t h,
                          int64_t heads) const {
    return lse_by_head ? lse[((part * batch + b) * heads + h) * rows + r]
                       : lse[slot(part, b, batch, r) * heads + h];
  }
};

/// kLanes threads a head of a row. The group reads the running log-sum-exp before its first thread
/// replaces it.
template <int kWidth, int kLanes, class Part, class Out>
__global__ void merge_kernel(RowMap map, int64_t heads, int head_dim, Parts<Part> from,
                             Rows<Out> out, Rows<float> lse) {
  const int64_t item =
      static_cast<int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const bool real = item < map.batch * map.count * heads;
  const int64_t index = real ? item / heads : 0;
  const int64_t h = real ? item - index * heads : 0;
  const int64_t b = index / map.count;
  const int64_t r = index - b * map.count;
  const int64_t t = map.row(b, r);
  const float running = real ? lse[t][h] : kMinusInfinity;
  __syncwarp();
  float most = running;
  for (int64_t p = 0; real && p < from.parts; ++p)
    most = fmaxf(most, from.lse_at(p, b, map.batch, r, h, heads));
  if (!real || most == kMinusInfinity) return;
  const float first = running == kMinusInfinity ? 0.0F : formulas::exp_f32(running - most);
  float total = first;
  for (int64_t p = 0; p < from.parts; ++p)
    total += formulas::exp_f32(from.lse_at(p, b, map.batch, r, h, heads) - most);
  for (int i = static_cast<int>(threadIdx.x % kLanes) * kWidth; i < head_dim;
       i += kLanes * kWidth) {
    Out* to = out[t] + h * head_dim + i;
    float sum[kWidth] = {};
    if (first != 0) {
      const auto x = load<kWidth>(to);
      for (int j = 0; j < kWidth; ++j) sum[j] = first * to_float(x.at[j]);
    }
    for (int64_t p = 0; p < from.parts; ++p) {
      float weight = formulas::exp_f32(from.lse_at(p, b, map.batch, r, h, heads) - most);
      if (weight == 0) continue;
      if constexpr (std::is_same_v<Part, e4m3>) weight *= *from.scale;
      const auto x = load<kWidth>(from.out[from.slot(p, b, map.batch, r)] + h * head_dim + i);
      for (int j = 0; j < kWidth; ++j) sum[j] += weight * to_float(x.at[j]);
    }
    Vector<Out, kWidth> result;
    for (int j = 0; j < kWidth; ++j) result.at[j] = from_float<Out>(sum[j] / total);
    store<kWidth>(to, result);
  }
  if (threadIdx.x % kLanes == 0) lse[t][h] = most + logf(total);
}

// --- log-sum-exps --------------------------------------------------------------------------------

/// Grid over (batch * rows) x heads: reading or writing (batch, H, rows) is coalesced by its
/// neighbours' caches; both are a 256th of the operands.
__global__ void store_stats_kernel(RowMap map, int64_t heads, const float* stats, Rows<float> lse) {
  for_vectors<1>(map.batch * map.count, heads, [&](int64_t index, int64_t h) {
    const int64_t b = index / map.count;
    const int64_t r = index - b * map.count;
    lse[map.row(b, r)][h] = stats[(b * heads + h) * map.count + r];
  });
}

__global__ void load_stats_kernel(RowMap map, int64_t heads, int64_t rows, Rows<const float> lse,
                                  float* stats) {
  for_vectors<1>(map.batch * rows, heads, [&](int64_t index, int64_t h) {
    const int64_t b = index / rows;
    const int64_t r = index - b * rows;
    const float value = r < map.count ? lse[map.row(b, r)][h] : kMinusInfinity;
    stats[(b * heads + h) * rows + r] = value == kMinusInfinity ? kNoKeys : value;
  });
}

// --- packing -------------------------------------------------------------------------------------

template <int kWidth, class A>
__global__ void pack_kernel(RowMap map, int64_t rows, int64_t n, Rows<const A> x, A* to) {
  for_vectors<kWidth>(map.batch * rows, n, [&](int64_t index, int64_t i) {
    const int64_t b = index / rows;
    const int64_t r = index - b * rows;
    store<kWidth>(to + index * n + i,
                  r < map.count ? load<kWidth>(x[map.row(b, r)] + i) : Vector<A, kWidth>{});
  });
}

template <int kWidth, class A>
__global__ void add_rows_kernel(RowMap map, int64_t rows, int64_t n, const A* from,
                                Rows<float> sum) {
  for_vectors<kWidth>(map.batch * map.count, n, [&](int64_t index, int64_t i) {
    const int64_t b = index / map.count;
    const int64_t r = index - b * map.count;
    const auto x = load<kWidth>(from + (b * rows + r) * n + i);
    float* at = sum[map.row(b, r)] + i;
    auto y = load<kWidth>(at);
    for (int j = 0; j < kWidth; ++j) y.at[j] += to_float(x.at[j]);
    store<kWidth>(at, y);
  });
}

/// kLanes threads a head of a row. |dout|^2 is formed of dout divided by its largest element, so
/// that it neither over- nor underflows.
template <int kWidth, int kLanes>
__global__ void output_of_delta_kernel(RowMap map, int64_t heads, int head_dim, int64_t rows,
                                       Rows<const bf16> dout, Rows<const float> delta, bf16* to) {
  const int64_t item =
      static_cast<int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const bool inside = item < map.batch * rows * heads;
  const int64_t index = inside ? item / heads : 0;
  const int64_t h = inside ? item - index * heads : 0;
  const int64_t b = index / rows;
  const int64_t r = index - b * rows;
  const bool real = inside && r < map.count;
  const bf16* x = dout[map.row(b, real ? r : 0)] + h * head_dim;
  const int first = static_cast<int>(threadIdx.x % kLanes) * kWidth;
  float largest = 0;
  for (int i = first; real && i < head_dim; i += kLanes * kWidth) {
    const auto v = load<kWidth>(x + i);
    for (int j = 0; j < kWidth; ++j) largest = fmaxf(largest, fabsf(to_float(v.at[j])));
  }
  largest = lanes_largest<kLanes>(largest);
  float squares = 0;
  for (int i = first; real && largest > 0 && i < head_dim; i += kLanes * kWidth) {
    const auto v = load<kWidth>(x + i);
    for (int j = 0; j < kWidth; ++j)
      squares += (to_float(v.at[j]) / largest) * (to_float(v.at[j]) / largest);
  }
  squares = lanes_sum<kLanes>(squares);
  if (!inside) return;
  const float factor = real && largest > 0 ? delta[map.row(b, r)][h] / largest / squares : 0.0F;
  for (int i = first; i < head_dim; i += kLanes * kWidth) {
    Vector<bf16, kWidth> out{};
    if (real && factor != 0) {
      const auto v = load<kWidth>(x + i);
      for (int j = 0; j < kWidth; ++j) out.at[j] = to_bf16(to_float(v.at[j]) / largest * factor);
    }
    store<kWidth>(to + (index * heads + h) * head_dim + i, out);
  }
}

__global__ void lengths_kernel(int64_t batch, int32_t queries, int32_t keys, int32_t* lengths) {
  for_vectors<1>(1, 2 * batch,
                 [&](int64_t, int64_t i) { lengths[i] = i < batch ? queries : keys; });
}

template <int kLanes>
unsigned blocks_of_items(int64_t items) {
  return static_cast<unsigned>(ceil_divide(items, kThreads / kLanes));
}

/// Calls body(A{}) with the type of operands and of a library's outputs.
template <class Body>
void with_stored(DType dtype, const Body& body) {
  if (dtype == DType::e4m3) return body(e4m3{});
  with_activation(dtype, body);
}

/// body(Constant<lanes>): 16 threads hold D = 128 in bf16 vectors; 32 the rest, and whatever is not
/// aligned.
template <int kWidth, class Body>
void with_lanes(int64_t head_dim, const Body& body) {
  if constexpr (kWidth > 1) {
    if (row_lanes(head_dim / kWidth) <= 16) return body(Constant<16>{});
  }
  body(Constant<32>{});
}

}  // namespace

void merge_attention(cudaStream_t stream, const AttentionPiece& piece,
                     const PartialAttention& partial, View out, View lse) {
  const int64_t heads = out.dim(1);
  const int64_t d = out.dim(2);
  const RowMap map = query_map(piece);
  const bool fits = fits_vectors({operand(partial.out), operand(out)}, d, kFullWidth<bf16>);
  with_stored(partial.out.dtype(), [&]<class Part>(Part) {
    const Parts<Part> from{rows_of<Part>(partial.out), partial.lse,  partial.parts, partial.rows,
                           partial.lse_by_head,        partial.scale};
    with_activation(out.dtype(), [&]<class Out>(Out) {
      with_width<bf16>(fits, [&](auto width) {
        constexpr int kWidth = decltype(width)::value;
        with_lanes<kWidth>(d, [&](auto lanes) {
          constexpr int kLanes = decltype(lanes)::value;
          launch(merge_kernel<kWidth, kLanes, Part, Out>,
                 {blocks_of_items<kLanes>(map.batch * map.count * heads), kThreads, stream}, map,
                 heads, static_cast<int>(d), from, rows_of<Out>(out), rows_of<float>(lse));
        });
      });
    });
  });
}

void merge_attention(cudaStream_t stream, ConstView other_out, ConstView other_lse, View out,
                     View lse) {
  if (out.empty()) return;
  AttentionPiece all;
  all.queries = out.rows();
  merge_attention(stream, all, {other_out, other_lse.data<float>(), 1, out.rows(), false}, out,
                  lse);
}

void store_stats(cudaStream_t stream, const AttentionPiece& piece, const float* stats, View lse) {
  const RowMap map = query_map(piece);
  const RowGrid grid = row_grid(map.batch * map.count, lse.dim(1));
  launch(store_stats_kernel, {blocks_of(grid), threads_of(grid), stream}, map, lse.dim(1), stats,
         rows_of<float>(lse));
}

void load_stats(cudaStream_t stream, const AttentionPiece& piece, ConstView lse, int64_t rows,
                float* stats) {
  const RowMap map = query_map(piece);
  const RowGrid grid = row_grid(map.batch * rows, lse.dim(1));
  launch(load_stats_kernel, {blocks_of(grid), threads_of(grid), stream}, map, lse.dim(1), rows,
         rows_of<float>(lse), stats);
}

void output_of_delta(cudaStream_t stream, const AttentionPiece& piece, ConstView dout,
                     ConstView delta, int64_t rows, View to) {
  const RowMap map = query_map(piece);
  const int64_t heads = dout.dim(1);
  const int64_t d = dout.dim(2);
  with_width<bf16>(fits_vectors({operand(dout), operand(to)}, d, kFullWidth<bf16>),
                   [&](auto width) {
                     constexpr int kWidth = decltype(width)::value;
                     with_lanes<kWidth>(d, [&](auto lanes) {
                       constexpr int kLanes = decltype(lanes)::value;
                       launch(output_of_delta_kernel<kWidth, kLanes>,
                              {blocks_of_items<kLanes>(map.batch * rows * heads), kThreads, stream},
                              map, heads, static_cast<int>(d), rows, rows_of<bf16>(dout),
                              rows_of<float>(delta), to.data<bf16>());
                     });
                   });
}

void pack_rows(cudaStream_t stream, ConstView x, int64_t begin, int64_t count, int64_t step,
               int64_t batch, int64_t rows, View to) {
  const RowMap map{begin, count, step, batch};
  const int64_t n = x.row_elements();
  with_stored(x.dtype(), [&]<class A>(A) {
    with_width<A>(fits_vectors({operand(x), operand(to)}, n, kFullWidth<A>), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowGrid grid = row_grid(batch * rows, n / kWidth);
      launch(pack_kernel<kWidth, A>, {blocks_of(grid), threads_of(grid), stream}, map, rows, n,
             rows_of<A>(x), to.data<A>());
    });
  });
}

void add_rows(cudaStream_t stream, ConstView from, int64_t begin, int64_t count, int64_t step,
              int64_t batch, int64_t rows, View sum) {
  const RowMap map{begin, count, step, batch};
  const int64_t n = sum.row_elements();
  with_activation(from.dtype(), [&]<class A>(A) {
    with_width<A>(fits_vectors({operand(from), operand(sum)}, n, kFullWidth<A>), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowGrid grid = row_grid(batch * count, n / kWidth);
      launch(add_rows_kernel<kWidth, A>, {blocks_of(grid), threads_of(grid), stream}, map, rows, n,
             from.data<A>(), rows_of<float>(sum));
    });
  });
}

void fill_lengths(cudaStream_t stream, const AttentionPiece& piece, int32_t* lengths) {
  const RowGrid grid = row_grid(1, 2 * piece.batch);
  launch(lengths_kernel, {blocks_of(grid), threads_of(grid), stream}, piece.batch,
         static_cast<int32_t>(piece.queries), static_cast<int32_t>(piece.keys), lengths);
}

}  // namespace ringbolt::cuda
