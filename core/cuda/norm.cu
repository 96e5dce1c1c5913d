// Operations that add up along rows (a block or a part of a warp a row) or down columns (pieces of
// rows, then the pieces).
#include "core/cuda/device.cuh"
#include "core/cuda/rowwise.h"

namespace ringbolt::cuda {
namespace {

/// Pieces of a sum over rows: enough for every multiprocessor to have four blocks at once.
constexpr int64_t kColumnPieces = 512;
constexpr int kWarps = kThreads / 32;

/// This thread's vectors of a row: number c begins at element (c * kThreads + thread) * kWidth.
template <int kWidth>
__device__ inline int64_t element_of(int chunk) {
  return (static_cast<int64_t>(chunk) * kThreads + threadIdx.x) * kWidth;
}

// --- RMSNorm -------------------------------------------------------------------------------------

/// One block a row, which it holds in registers between the two uses; kChunks 0 reads a longer row
/// twice.
template <int kWidth, int kChunks, class A>
__global__ void __launch_bounds__(kThreads)
    rms_norm_forward_kernel(int64_t n, Rows<const A> x, const A* weight, float epsilon, Rows<A> y,
                            float* rstd) {
  __shared__ float shared[kWarps];
  const int64_t row = blockIdx.x;
  const A* from = x[row];
  Vector<A, kWidth> held[kChunks == 0 ? 1 : kChunks];
  float squares = 0;
  const int chunks =
      kChunks == 0 ? static_cast<int>(ceil_divide(n, int64_t{kThreads} * kWidth)) : kChunks;
#pragma unroll
  for (int c = 0; c < chunks; ++c) {
    const int64_t i = element_of<kWidth>(c);
    if (i >= n) break;
    auto& vector = held[kChunks == 0 ? 0 : c];
    vector = load<kWidth>(from + i);
    for (int j = 0; j < kWidth; ++j) squares += to_float(vector.at[j]) * to_float(vector.at[j]);
  }
  const float r = 1.0F / sqrtf(block_sum(squares, shared) / static_cast<float>(n) + epsilon);
  if (threadIdx.x == 0) rstd[row] = r;
#pragma unroll
  for (int c = 0; c < chunks; ++c) {
    const int64_t i = element_of<kWidth>(c);
    if (i >= n) break;
    const auto vector = kChunks == 0 ? load<kWidth>(from + i) : held[kChunks == 0 ? 0 : c];
    const auto w = load<kWidth>(weight + i);
    Vector<A, kWidth> out;
    for (int j = 0; j < kWidth; ++j)
      out.at[j] = from_float<A>(to_float(vector.at[j]) * r * to_float(w.at[j]));
    store<kWidth>(y[row] + i, out);
  }
}

template <class A>
struct NormBackward {
  int64_t rows;
  int64_t n;
  int64_t rows_of_piece;
  Rows<const A> dy;
  Rows<const A> x;
  const A* weight;
  const float* rstd;
  Rows<A> dx;
  float* partial;  ///< (pieces, n): each block's share of dweight
};

/// One block a piece of rows. Each thread keeps its own columns: their weights, and their sums of
/// dweight.
template <int kWidth, int kChunks, class A>
__global__ void __launch_bounds__(kThreads) rms_norm_backward_kernel(NormBackward<A> a) {
  __shared__ float shared[kWarps];
  float dweight[kChunks][kWidth] = {};
  const int64_t begin = blockIdx.x * a.rows_of_piece;
  const int64_t end = begin + a.rows_of_piece < a.rows ? begin + a.rows_of_piece : a.rows;
  for (int64_t row = begin; row < end; ++row) {
    Vector<A, kWidth> dy[kChunks];
    Vector<A, kWidth> x[kChunks];
    const float r = a.rstd[row];
    float sum = 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t i = element_of<kWidth>(c);
      if (i >= a.n) break;
      dy[c] = load<kWidth>(a.dy[row] + i);
      x[c] = load<kWidth>(a.x[row] + i);
      const auto w = load<kWidth>(a.weight + i);
      for (int j = 0; j < kWidth; ++j)
        sum += to_float(dy[c].at[j]) * to_float(w.at[j]) * to_float(x[c].at[j]);
    }
    const float projection = block_sum(sum, shared) * r / static_cast<float>(a.n);
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int64_t i = element_of<kWidth>(c);
      if (i >= a.n) break;
      const auto w = load<kWidth>(a.weight + i);
      auto dx = load<kWidth>(a.dx[row] + i);
      for (int j = 0; j < kWidth; ++j) {
        const float g = to_float(dy[c].at[j]);
        const float xj = to_float(x[c].at[j]);
        dweight[c][j] += g * xj * r;
        dx.at[j] = from_float<A>(to_float(dx.at[j]) + formulas::rms_norm_backward(
                                                          g, xj, to_float(w.at[j]), r, projection));
      }
      store<kWidth>(a.dx[row] + i, dx);
    }
  }
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int64_t i = element_of<kWidth>(c);
    if (i >= a.n) break;
    for (int j = 0; j < kWidth; ++j) a.partial[blockIdx.x * a.n + i + j] = dweight[c][j];
  }
}

/// The same for rows that do not fit into registers: read twice, sums of dweight in memory.
template <class A>
__global__ void __launch_bounds__(kThreads) rms_norm_backward_long_kernel(NormBackward<A> a) {
  __shared__ float shared[kWarps];
  float* partial = a.partial + blockIdx.x * a.n;
  for (int64_t i = threadIdx.x; i < a.n; i += kThreads) partial[i] = 0;
  const int64_t begin = blockIdx.x * a.rows_of_piece;
  const int64_t end = begin + a.rows_of_piece < a.rows ? begin + a.rows_of_piece : a.rows;
  for (int64_t row = begin; row < end; ++row) {
    const float r = a.rstd[row];
    float sum = 0;
    for (int64_t i = threadIdx.x; i < a.n; i += kThreads) {
      sum += to_float(a.dy[row][i]) * to_float(a.weight[i]) * to_float(a.x[row][i]);
    }
    const float projection = block_sum(sum, shared) * r / static_cast<float>(a.n);
    for (int64_t i = threadIdx.x; i < a.n; i += kThreads) {
      const float g = to_float(a.dy[row][i]);
      const float xi = to_float(a.x[row][i]);
      A* dx = a.dx[row] + i;
      partial[i] += g * xi * r;
      *dx = from_float<A>(to_float(*dx) +
                          formulas::rms_norm_backward(g, xi, to_float(a.weight[i]), r, projection));
    }
  }
}

// --- sums of columns -----------------------------------------------------------------------------

/// partial (pieces, n) = column sums of each piece of rows; a thread has kWidth columns of one
/// piece.
template <int kWidth, class A>
__global__ void column_pieces_kernel(int64_t rows, int64_t n, int64_t rows_of_piece,
                                     Rows<const A> x, float* partial) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  if (i >= n) return;
  const int64_t begin = blockIdx.y * rows_of_piece;
  const int64_t end = begin + rows_of_piece < rows ? begin + rows_of_piece : rows;
  float sum[kWidth] = {};
  for (int64_t row = begin; row < end; ++row) {
    const auto vector = load<kWidth>(x[row] + i);
    for (int j = 0; j < kWidth; ++j) sum[j] += to_float(vector.at[j]);
  }
  for (int j = 0; j < kWidth; ++j) partial[blockIdx.y * n + i + j] = sum[j];
}

/// total (n) += the pieces' sums. A block has 32 columns; its warps share the pieces, and are added
/// in order.
__global__ void __launch_bounds__(kThreads)
    add_pieces_kernel(int64_t pieces, int64_t n, const float* partial, float* total) {
  __shared__ float shared[kWarps][32];
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int64_t column = static_cast<int64_t>(blockIdx.x) * 32 + lane;
  float sum = 0;
  if (column < n) {
    for (int64_t p = warp; p < pieces; p += kWarps) sum += partial[p * n + column];
  }
  shared[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= n) return;
  for (int w = 1; w < kWarps; ++w) sum += shared[w][lane];
  total[column] += sum;
}

void add_pieces(cudaStream_t stream, int64_t pieces, int64_t n, const float* partial,
                float* total) {
  launch(add_pieces_kernel, {static_cast<unsigned>(ceil_divide(n, 32)), kThreads, stream}, pieces,
         n, partial, total);
}

// --- delta ---------------------------------------------------------------------------------------

/// kLanes threads a head of a token.
template <int kWidth, int kLanes, class A>
__global__ void delta_kernel(int64_t rows, int64_t heads, int64_t head_dim, Rows<const A> dout,
                             Rows<const A> out, Rows<float> delta) {
  constexpr int kRows = kThreads / kLanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.x / kLanes;
  const int64_t t = row / heads;
  const int64_t h = row - t * heads;
  float sum = 0;
  if (row < rows) {
    for (int64_t i = threadIdx.x % kLanes * kWidth; i < head_dim; i += kLanes * kWidth) {
      const auto x = load<kWidth>(dout[t] + h * head_dim + i);
      const auto y = load<kWidth>(out[t] + h * head_dim + i);
      for (int j = 0; j < kWidth; ++j) sum += to_float(x.at[j]) * to_float(y.at[j]);
    }
  }
  sum = lanes_sum<kLanes>(sum);
  if (row < rows && threadIdx.x % kLanes == 0) delta[t][h] = sum;
}

/// body(Constant<chunks>) for 1, 2, 4 or 8; rows that are not aligned, which no model has, share
/// the largest.
template <int kWidth, class Body>
void with_chunks(int chunks, const Body& body) {
  if constexpr (kWidth > 1) {
    if (chunks == 1) return body(Constant<1>{});
    if (chunks == 2) return body(Constant<2>{});
    if (chunks == 4) return body(Constant<4>{});
  }
  body(Constant<8>{});
}

}  // namespace

void rms_norm_forward(cudaStream_t stream, ConstView x, ConstView weight, float epsilon, View y,
                      View rstd) {
  if (x.empty()) return;
  const int64_t n = x.row_elements();
  const auto rows = static_cast<unsigned>(x.rows());
  with_activation(x.dtype(), [&]<class A>(A) {
    with_width<A>(fits_vectors({operand(x), operand(weight), operand(y)}, n, kFullWidth<A>),
                  [&](auto width) {
                    constexpr int kWidth = decltype(width)::value;
                    const auto run = [&](auto chunks) {
                      launch(rms_norm_forward_kernel<kWidth, decltype(chunks)::value, A>,
                             {rows, kThreads, stream}, n, rows_of<A>(x), weight.data<A>(), epsilon,
                             rows_of<A>(y), rstd.data<float>());
                    };
                    const int chunks = row_chunks(n / kWidth);
                    if (chunks == 0) {
                      run(Constant<0>{});
                    } else {
                      with_chunks<kWidth>(chunks, run);
                    }
                  });
  });
}

void rms_norm_backward(cudaStream_t stream, Memory& memory, ConstView dy, ConstView x,
                       ConstView weight, ConstView rstd, View dx, View dweight) {
  if (x.empty()) return;
  const int64_t n = x.row_elements();
  const RowPieces pieces = row_pieces(x.rows(), kColumnPieces);
  const Scratch partial(memory, pieces.pieces * n * static_cast<int64_t>(sizeof(float)));
  const auto blocks = static_cast<unsigned>(pieces.pieces);
  with_activation(x.dtype(), [&]<class A>(A) {
    const NormBackward<A> arguments{x.rows(),
                                    n,
                                    pieces.rows_of_piece,
                                    rows_of<A>(dy),
                                    rows_of<A>(x),
                                    weight.data<A>(),
                                    rstd.data<float>(),
                                    rows_of<A>(dx),
                                    partial.as<float>()};
    const bool fits =
        fits_vectors({operand(dy), operand(x), operand(weight), operand(dx)}, n, kFullWidth<A>);
    with_width<A>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const int chunks = row_chunks(n / kWidth);
      if (chunks == 0) {
        launch(rms_norm_backward_long_kernel<A>, {blocks, kThreads, stream}, arguments);
        return;
      }
      with_chunks<kWidth>(chunks, [&](auto held) {
        launch(rms_norm_backward_kernel<kWidth, decltype(held)::value, A>,
               {blocks, kThreads, stream}, arguments);
      });
    });
  });
  add_pieces(stream, pieces.pieces, n, partial.as<float>(), dweight.data<float>());
}

void bias_backward(cudaStream_t stream, Memory& memory, ConstView dy, View dbias) {
  if (dy.empty()) return;
  const int64_t n = dy.row_elements();
  const RowPieces pieces = row_pieces(dy.rows(), kColumnPieces);
  const Scratch partial(memory, pieces.pieces * n * static_cast<int64_t>(sizeof(float)));
  with_activation(dy.dtype(), [&]<class A>(A) {
    with_width<A>(fits_vectors({operand(dy)}, n, kFullWidth<A>), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const dim3 blocks(static_cast<unsigned>(ceil_divide(n / kWidth, kThreads)),
                        static_cast<unsigned>(pieces.pieces));
      launch(column_pieces_kernel<kWidth, A>, {blocks, kThreads, stream}, dy.rows(), n,
             pieces.rows_of_piece, rows_of<A>(dy), partial.as<float>());
    });
  });
  add_pieces(stream, pieces.pieces, n, partial.as<float>(), dbias.data<float>());
}

void attention_delta(cudaStream_t stream, ConstView dout, ConstView out, View delta) {
  if (delta.empty()) return;
  const int64_t heads = dout.dim(1);
  const int64_t head_dim = dout.dim(2);
  const int64_t rows = dout.rows() * heads;
  with_activation(dout.dtype(), [&]<class A>(A) {
    with_width<A>(
        fits_vectors({operand(dout), operand(out)}, head_dim, kFullWidth<A>), [&](auto width) {
          constexpr int kWidth = decltype(width)::value;
          const auto run = [&](auto lanes) {
            constexpr int kLanes = decltype(lanes)::value;
            const auto blocks = static_cast<unsigned>(ceil_divide(rows, kThreads / kLanes));
            launch(delta_kernel<kWidth, kLanes, A>, {blocks, kThreads, stream}, rows, heads,
                   head_dim, rows_of<A>(dout), rows_of<A>(out), rows_of<float>(delta));
          };
          if (kWidth > 1 && row_lanes(head_dim / kWidth) <= 16) {
            run(Constant<16>{});  // D 128 in bf16, D 64 in f32
          } else {
            run(Constant<32>{});
          }
        });
  });
}

}  // namespace ringbolt::cuda
