// Plain attention: a warp a row, keys by tiles of 32 through shared memory, f32 inside. For what
// cuDNN does not take.
#include <limits>

#include "core/cuda/attention_kernels.h"
#include "core/cuda/device.cuh"
#include "core/cuda/dynamic_shared.cuh"

namespace ringbolt::cuda {
namespace {

constexpr int kRows = kRowsOfBlock;  ///< warps of a block, each with one row
constexpr int kBlock = 32 * kRows;
constexpr int kTile =
    32;  ///< columns (keys, or queries in the dk, dv kernel) of a tile: one a lane
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

__device__ inline float dot(const float* a, const float* b, int n) {
  float sum[4] = {};
  int i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int j = 0; j < 4; ++j) sum[j] += a[i + j] * b[i + j];
  }
  for (; i < n; ++i) sum[0] += a[i] * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/// One row of a head into shared memory, by the 32 threads of a warp.
template <class A>
__device__ inline void load_row(const A* from, int n, float* to) {
  for (int i = static_cast<int>(threadIdx.x % 32); i < n; i += 32) to[i] = to_float(from[i]);
}

/// kTile rows of one head into shared memory with a pitch of n + 1, by the block; zero from `count`
/// on.
template <class A>
__device__ inline void load_tile(Rows<const A> x, int64_t first, int64_t count, int64_t head, int n,
                                 float* tile) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int r = static_cast<int>(threadIdx.x / 32); r < kTile; r += kRows) {
    const A* from = x[first + r] + head * n;
    for (int i = lane; i < n; i += 32) tile[r * (n + 1) + i] = r < count ? to_float(from[i]) : 0.0F;
  }
}

template <class A>
struct Problem {
  AttentionPiece piece;
  Rows<const A> q, k, v;
  int64_t heads, group;
  int head_dim;
  float scale;

  __device__ int64_t visible(int64_t row) const { return piece.causal ? row + 1 : piece.keys; }
};

template <class A>
Problem<A> problem_of(const AttentionPiece& piece, const AttentionInputs& in) {
  return {piece,
          rows_of<A>(in.q),
          rows_of<A>(in.k),
          rows_of<A>(in.v),
          in.q.dim(1),
          in.q.dim(1) / in.k.dim(1),
          static_cast<int>(in.q.dim(2)),
          in.scale};
}

/// A row's running result: kPerLane elements a lane (element lane + 32 l), not yet divided by
/// `sum`.
template <int kPerLane>
struct Running {
  float maximum = kMinusInfinity;
  float sum = 0;
  float out[kPerLane] = {};

  /// Adds a tile's columns, one a lane: score -inf is none. v: rows of the tile, read where a
  /// weight is not 0.
  template <class A>
  __device__ void add(float score, Rows<const A> v, int64_t first, int64_t offset, int n) {
    const float most = fmaxf(maximum, lanes_largest(score));
    if (most == kMinusInfinity) return;  // alike in all lanes
    const float kept = maximum == kMinusInfinity ? 0.0F : formulas::exp_f32(maximum - most);
    const float weight = score == kMinusInfinity ? 0.0F : formulas::exp_f32(score - most);
    sum = sum * kept + lanes_sum(weight);
    for (int l = 0; l < kPerLane; ++l) out[l] *= kept;
    const int lane = static_cast<int>(threadIdx.x % 32);
    // Several rows are on their way at a time: one after the other would wait for memory each time.
    constexpr int kAtOnce = 32 / kPerLane;
    for (int j = 0; j < kTile; j += kAtOnce) {
      float w[kAtOnce];
      float x[kAtOnce][kPerLane];
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
        w[c] = __shfl_sync(0xffffffffU, weight, j + c);
        const A* row = v[first + j + c] + offset;
#pragma unroll
        for (int l = 0; l < kPerLane; ++l)
          x[c][l] = w[c] != 0 && lane + 32 * l < n ? to_float(row[lane + 32 * l]) : 0.0F;
      }
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
#pragma unroll
        for (int l = 0; l < kPerLane; ++l) out[l] += w[c] * x[c][l];
      }
    }
    maximum = most;
  }
};

/// Where results go: into the running (out, lse), or, chunks > 1, apart.
template <class Out>
struct ForwardTarget {
  Rows<Out> out;
  Rows<float> lse;
  int64_t chunks;
  float* partial_lse;  ///< null: running
};

/// A row is a query of a head: those of all heads of a group, which share the tile's keys, follow
/// each other. Grid: (blocks of kRows rows, K, batch * chunks).
template <int kPerLane, class A, class Out>
__global__ void __launch_bounds__(kBlock) forward_kernel(Problem<A> p, ForwardTarget<Out> to) {
  float* shared = dynamic_shared<float>();
  const int n = p.head_dim;
  const int lane = static_cast<int>(threadIdx.x % 32);
  float* row_q = shared + static_cast<int>(threadIdx.x / 32) * n;
  float* tile = shared + kRows * n;
  const int64_t kv_head = blockIdx.y;
  const int64_t batch = blockIdx.z / to.chunks;
  const int64_t chunk = blockIdx.z - batch * to.chunks;
  const int64_t rows = p.piece.queries * p.group;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t row = first_row + threadIdx.x / 32;
  const bool real = row < rows;
  const int64_t query = row / p.group;
  const int64_t head = kv_head * p.group + row % p.group;
  const int64_t t = p.piece.query_begin + batch * p.piece.query_step + query;
  const int64_t keys = p.piece.key_begin + batch * p.piece.key_step;
  const bool running = to.partial_lse == nullptr;

  Running<kPerLane> state;
  if (real) load_row(p.q[t] + head * n, n, row_q);
  if (real && running && to.lse[t][head] != kMinusInfinity) {
    state.maximum = to.lse[t][head];
    state.sum = 1;
    for (int l = 0; l < kPerLane; ++l) {
      if (lane + 32 * l < n) state.out[l] = to_float(to.out[t][head * n + lane + 32 * l]);
    }
  }
  const int64_t of_chunk = round_up(ceil_divide(p.piece.keys, to.chunks), kTile);
  const int64_t seen_by_block = p.visible((min(first_row + kRows, rows) - 1) / p.group);
  const int64_t end = min(min((chunk + 1) * of_chunk, p.piece.keys), seen_by_block);
  for (int64_t j = chunk * of_chunk; j < end; j += kTile) {
    __syncthreads();
    load_tile(p.k, keys + j, p.piece.keys - j, kv_head, n, tile);
    __syncthreads();
    const bool sees = real && j + lane < min(end, p.visible(query));
    const float score = sees ? p.scale * dot(row_q, tile + lane * (n + 1), n) : kMinusInfinity;
    state.add(score, p.v, keys + j, kv_head * n, n);
  }
  if (!real) return;
  const int64_t slot = (chunk * p.piece.batch + batch) * p.piece.queries + query;
  const float lse = state.sum == 0 ? kMinusInfinity : state.maximum + logf(state.sum);
  if (state.sum == 0 && running) return;
  Out* out = to.out[running ? t : slot] + head * n;
  for (int l = 0; l < kPerLane; ++l) {
    const int i = lane + 32 * l;
    if (i < n) out[i] = from_float<Out>(state.sum == 0 ? 0.0F : state.out[l] / state.sum);
  }
  if (lane != 0) return;
  if (running) {
    to.lse[t][head] = lse;
  } else {
    to.partial_lse[slot * p.heads + head] = lse;
  }
}

template <class A>
struct BackwardProblem {
  Problem<A> forward;
  Rows<const A> dout;
  Rows<const float> lse, delta;
  Rows<float> dq, dk, dv;
};

/// dq of one row: ds = p (dp - delta) scale over the keys that it sees. Grid: (blocks of kRows
/// queries, H, batch).
template <int kPerLane, class A>
__global__ void __launch_bounds__(kBlock) dq_kernel(BackwardProblem<A> b) {
  float* shared = dynamic_shared<float>();
  const Problem<A>& p = b.forward;
  const int n = p.head_dim;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  float* row_q = shared + warp * n;
  float* row_dout = shared + (kRows + warp) * n;
  float* tile = shared + 2 * kRows * n;
  const int64_t head = blockIdx.y;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t row = first_row + warp;
  const bool real = row < p.piece.queries;
  const int64_t t = p.piece.query_begin + blockIdx.z * p.piece.query_step + row;
  const int64_t keys = p.piece.key_begin + blockIdx.z * p.piece.key_step;
  if (real) {
    load_row(p.q[t] + head * n, n, row_q);
    load_row(b.dout[t] + head * n, n, row_dout);
  }
  const float lse = real ? b.lse[t][head] : kMinusInfinity;
  const float delta = real ? b.delta[t][head] : 0.0F;
  float dq[kPerLane] = {};
  const int64_t end = p.visible(min(first_row + kRows, p.piece.queries) - 1);
  for (int64_t j = 0; j < end; j += kTile) {
    __syncthreads();
    load_tile(p.k, keys + j, p.piece.keys - j, head / p.group, n, tile);
    __syncthreads();
    const bool sees = real && lse != kMinusInfinity && j + lane < p.visible(row);
    const float weight =
        sees ? formulas::exp_f32(p.scale * dot(row_q, tile + lane * (n + 1), n) - lse) : 0.0F;
    __syncthreads();
    load_tile(p.v, keys + j, p.piece.keys - j, head / p.group, n, tile);
    __syncthreads();
    const float ds =
        sees ? weight * (dot(row_dout, tile + lane * (n + 1), n) - delta) * p.scale : 0.0F;
    for (int c = 0; c < kTile; ++c) {
      const float factor = __shfl_sync(0xffffffffU, ds, c);
      if (factor == 0) continue;
      const A* k = p.k[keys + j + c] + head / p.group * n;
      for (int l = 0; l < kPerLane; ++l) {
        const int i = lane + 32 * l;
        if (i < n) dq[l] += factor * to_float(k[i]);
      }
    }
  }
  if (!real) return;
  for (int l = 0; l < kPerLane; ++l) {
    const int i = lane + 32 * l;
    if (i < n) b.dq[t][head * n + i] += dq[l];
  }
}

/// dk and dv of one key: over the query heads of its group and the rows that see it, each tile of
/// rows added up by itself first, which keeps sums over many heads exact. Grid: (blocks of kRows
/// keys, K, batch).
template <int kPerLane, class A>
__global__ void __launch_bounds__(kBlock) dkv_kernel(BackwardProblem<A> b) {
  float* shared = dynamic_shared<float>();
  const Problem<A>& p = b.forward;
  const int n = p.head_dim;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  float* row_k = shared + warp * n;
  float* row_v = shared + (kRows + warp) * n;
  float* tile = shared + 2 * kRows * n;
  const int64_t kv_head = blockIdx.y;
  const int64_t first_key = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t key = first_key + warp;
  const bool real = key < p.piece.keys;
  const int64_t queries = p.piece.query_begin + blockIdx.z * p.piece.query_step;
  const int64_t t = p.piece.key_begin + blockIdx.z * p.piece.key_step + key;
  if (real) {
    load_row(p.k[t] + kv_head * n, n, row_k);
    load_row(p.v[t] + kv_head * n, n, row_v);
  }
  float dk[kPerLane] = {};
  float dv[kPerLane] = {};
  const int64_t begin = p.piece.causal ? first_key / kTile * kTile : 0;
  for (int64_t head = kv_head * p.group; head < (kv_head + 1) * p.group; ++head) {
    for (int64_t i0 = begin; i0 < p.piece.queries; i0 += kTile) {
      const int64_t row = i0 + lane;
      const bool inside = row < p.piece.queries;
      const float lse = inside ? b.lse[queries + row][head] : kMinusInfinity;
      const float delta = inside ? b.delta[queries + row][head] : 0.0F;
      __syncthreads();
      load_tile(p.q, queries + i0, p.piece.queries - i0, head, n, tile);
      __syncthreads();
      const bool seen = real && inside && lse != kMinusInfinity && key < p.visible(row);
      const float weight =
          seen ? formulas::exp_f32(p.scale * dot(row_k, tile + lane * (n + 1), n) - lse) : 0.0F;
      __syncthreads();
      load_tile(b.dout, queries + i0, p.piece.queries - i0, head, n, tile);
      __syncthreads();
      const float ds =
          seen ? weight * (dot(row_v, tile + lane * (n + 1), n) - delta) * p.scale : 0.0F;
      float tile_dk[kPerLane] = {};
      float tile_dv[kPerLane] = {};
      for (int c = 0; c < kTile && i0 + c < p.piece.queries; ++c) {
        const float w = __shfl_sync(0xffffffffU, weight, c);
        const float s = __shfl_sync(0xffffffffU, ds, c);
        const A* q = p.q[queries + i0 + c] + head * n;
        for (int l = 0; l < kPerLane; ++l) {
          const int i = lane + 32 * l;
          if (i >= n) continue;
          tile_dv[l] += w * tile[c * (n + 1) + i];
          tile_dk[l] += s * to_float(q[i]);
        }
      }
      for (int l = 0; l < kPerLane; ++l) {
        dk[l] += tile_dk[l];
        dv[l] += tile_dv[l];
      }
    }
  }
  if (!real) return;
  for (int l = 0; l < kPerLane; ++l) {
    const int i = lane + 32 * l;
    if (i >= n) continue;
    b.dk[t][kv_head * n + i] += dk[l];
    b.dv[t][kv_head * n + i] += dv[l];
  }
}

/// Shared memory of a block with `rows` rows and a tile: at most 41 KB, for D = 256.
size_t shared_bytes(int rows, int64_t head_dim) {
  return sizeof(float) * static_cast<size_t>(rows * head_dim + kTile * (head_dim + 1));
}

/// body(Constant<elements a lane>).
template <class Body>
void with_lane_elements(int64_t head_dim, const Body& body) {
  if (head_dim <= 64) return body(Constant<2>{});
  if (head_dim <= 128) return body(Constant<4>{});
  body(Constant<8>{});
}

dim3 grid_of(int64_t rows, int64_t heads, int64_t z) {
  return dim3(static_cast<unsigned>(ceil_divide(rows, kRows)), static_cast<unsigned>(heads),
              static_cast<unsigned>(z));
}

int64_t rows_of_group(const AttentionPiece& piece, const AttentionInputs& in) {
  return piece.queries * (in.q.dim(1) / in.k.dim(1));
}

/// Calls body(part) for parts of the batch that a grid can hold.
template <class Body>
void by_batches(AttentionPiece piece, int64_t z_of_one, const Body& body) {
  const int64_t most = kMostGridY / z_of_one;
  const int64_t all = piece.batch;
  for (int64_t done = 0; done < all; done += most) {
    AttentionPiece part = piece;
    part.batch = all - done < most ? all - done : most;
    part.query_begin += done * piece.query_step;
    part.key_begin += done * piece.key_step;
    body(part);
  }
}

}  // namespace

void own_attention_forward(cudaStream_t stream, const AttentionPiece& piece,
                           const AttentionInputs& in, View out, View lse) {
  const int64_t d = in.q.dim(2);
  by_batches(piece, 1, [&](const AttentionPiece& part) {
    with_activation(in.q.dtype(), [&]<class A>(A) {
      with_activation(out.dtype(), [&]<class Out>(Out) {
        with_lane_elements(d, [&](auto lanes) {
          launch(forward_kernel<decltype(lanes)::value, A, Out>,
                 {grid_of(rows_of_group(part, in), in.k.dim(1), part.batch), kBlock, stream,
                  shared_bytes(kRows, d)},
                 problem_of<A>(part, in),
                 ForwardTarget<Out>{rows_of<Out>(out), rows_of<float>(lse), 1, nullptr});
        });
      });
    });
  });
}

void own_attention_chunks(cudaStream_t stream, const AttentionPiece& piece,
                          const AttentionInputs& in, int64_t chunks, View partial_out,
                          float* partial_lse) {
  const int64_t d = in.q.dim(2);
  with_activation(in.q.dtype(), [&]<class A>(A) {
    with_lane_elements(d, [&](auto lanes) {
      launch(forward_kernel<decltype(lanes)::value, A, float>,
             {grid_of(rows_of_group(piece, in), in.k.dim(1), piece.batch * chunks), kBlock, stream,
              shared_bytes(kRows, d)},
             problem_of<A>(piece, in),
             ForwardTarget<float>{rows_of<float>(partial_out), {nullptr, 0}, chunks, partial_lse});
    });
  });
}

void own_attention_backward(cudaStream_t stream, const AttentionPiece& piece,
                            const AttentionInputs& in, ConstView dout, ConstView lse,
                            ConstView delta, View dq, View dk, View dv) {
  const int64_t d = in.q.dim(2);
  const size_t bytes = shared_bytes(2 * kRows, d);
  by_batches(piece, 1, [&](const AttentionPiece& part) {
    with_activation(in.q.dtype(), [&]<class A>(A) {
      const BackwardProblem<A> problem{
          problem_of<A>(part, in), rows_of<A>(dout),   rows_of<float>(lse), rows_of<float>(delta),
          rows_of<float>(dq),      rows_of<float>(dk), rows_of<float>(dv)};
      with_lane_elements(d, [&](auto lanes) {
        constexpr int kPerLane = decltype(lanes)::value;
        launch(dq_kernel<kPerLane, A>,
               {grid_of(part.queries, in.q.dim(1), part.batch), kBlock, stream, bytes}, problem);
        launch(dkv_kernel<kPerLane, A>,
               {grid_of(part.keys, in.k.dim(1), part.batch), kBlock, stream, bytes}, problem);
      });
    });
  });
}

}  // namespace ringbolt::cuda
