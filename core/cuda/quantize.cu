// E4M3 operands: codes and scales of an operand in two passes over it, the numbers that cuDNN
// multiplies by, and bf16 of codes for our own kernels.
#include <limits>

#include "core/base/e4m3.h"
#include "core/cuda/attention_kernels.h"
#include "core/cuda/cudnn.h"
#include "core/cuda/device.cuh"

namespace ringbolt::cuda {
namespace {

/// Blocks that share a part of the heads; each leaves one maximum.
constexpr int64_t kMostBlocks = 1024;

/// The largest over a block, in every thread.
__device__ inline float block_largest(float x, float* shared) {
  x = lanes_largest(x);
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  if (thread % 32 == 0) shared[thread / 32] = x;
  __syncthreads();
  float largest = shared[0];
  for (int warp = 1; warp < kThreads / 32; ++warp) largest = fmaxf(largest, shared[warp]);
  __syncthreads();
  return largest;
}

/// Blocks (b, g) are for part g of the heads, `width` elements a row: body(row, first element) for
/// each vector of a thread.
template <int kWidth, class Body>
__device__ inline void for_part(int64_t rows, int64_t width, const Body& body) {
  const int64_t begin = blockIdx.y * width;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows;
       row += step) {
    for (int64_t i = threadIdx.x * int64_t{kWidth}; i < width; i += blockDim.x * int64_t{kWidth})
      body(row, begin + i);
  }
}

/// Element j of a vector at `i` of a row, less the centre's, where there is one.
template <class A, int kWidth>
__device__ inline float centred(const Vector<A, kWidth>& x, const float* centre, int64_t i, int j) {
  return centre == nullptr ? to_float(x.at[j]) : to_float(x.at[j]) - centre[i + j];
}

__device__ inline bool is_finite(float x) { return fabsf(x) <= std::numeric_limits<float>::max(); }

/// partial (G, blocks): the largest finite magnitudes.
template <int kWidth, class A>
__global__ void largest_kernel(int64_t rows, int64_t width, Rows<const A> x, const float* centre,
                               float* partial) {
  __shared__ float shared[kThreads / 32];
  float largest = 0;
  for_part<kWidth>(rows, width, [&](int64_t row, int64_t i) {
    const auto values = load<kWidth>(x[row] + i);
    for (int j = 0; j < kWidth; ++j) {
      const float magnitude = fabsf(centred(values, centre, i, j));
      if (magnitude > largest && is_finite(magnitude)) largest = magnitude;
    }
  });
  largest = block_largest(largest, shared);
  if (threadIdx.x == 0 && threadIdx.y == 0) partial[blockIdx.y * gridDim.x + blockIdx.x] = largest;
}

/// As to_e4m3, of two; one instruction where the device has it.
__device__ inline void to_codes(float first, float second, e4m3* codes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(second), "f"(first));
  codes[0].bits = static_cast<uint8_t>(pair & 0xff);
  codes[1].bits = static_cast<uint8_t>(pair >> 8);
#else
  codes[0] = to_e4m3(first);
  codes[1] = to_e4m3(second);
#endif
}

/// Every block finds its part's scale again among the partial maxima; the first writes it.
template <int kWidth, class A>
__global__ void quantize_kernel(int64_t rows, int64_t width, Rows<const A> x, const float* centre,
                                const float* partial, Rows<e4m3> codes, float* scales) {
  __shared__ float shared[kThreads / 32];
  float largest = 0;
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  for (int64_t i = thread; i < gridDim.x; i += kThreads)
    largest = fmaxf(largest, partial[blockIdx.y * gridDim.x + i]);
  const float scale = e4m3_scale(block_largest(largest, shared));
  if (blockIdx.x == 0 && thread == 0) scales[blockIdx.y] = scale;
  const float inverse = 1 / scale;
  for_part<kWidth>(rows, width, [&](int64_t row, int64_t i) {
    const auto values = load<kWidth>(x[row] + i);
    const auto scaled = [&](int j) { return centred(values, centre, i, j) * inverse; };
    Vector<e4m3, kWidth> result;
    if constexpr (kWidth == 1) {
      result.at[0] = to_e4m3(scaled(0));
    } else {
      for (int j = 0; j < kWidth; j += 2) to_codes(scaled(j), scaled(j + 1), result.at + j);
    }
    store<kWidth>(codes[row] + i, result);
  });
}

__global__ void fp8_scales_kernel(const float* q, const float* k, const float* v, float* scales) {
  const auto set = [&](Fp8Scale which, float value) {
    scales[static_cast<int>(which) * kFp8ScaleStep] = value;
  };
  for_vectors<1>(1, 1, [&](int64_t, int64_t) {
    set(Fp8Scale::descale_q, *q);
    set(Fp8Scale::descale_k, *k);
    set(Fp8Scale::descale_v, *v);
    set(Fp8Scale::descale_weights, 1 / kFp8WeightScale);
    set(Fp8Scale::scale_weights, kFp8WeightScale);
    set(Fp8Scale::scale_out, 1 / *v);  // an output is a mean of values: no larger than they are
  });
}

template <int kWidth>
__global__ void dequantize_kernel(int64_t begin, int64_t count, int64_t step, int64_t rows,
                                  int64_t n, Rows<const e4m3> codes, const float* scale, bf16* to) {
  for_vectors<kWidth>(rows, n, [&](int64_t index, int64_t i) {
    const int64_t b = index / count;
    const auto x = load<kWidth>(codes[begin + b * step + (index - b * count)] + i);
    Vector<bf16, kWidth> result;
    for (int j = 0; j < kWidth; ++j) result.at[j] = to_bf16(to_float(x.at[j]) * *scale);
    store<kWidth>(to + index * n + i, result);
  });
}

/// Pieces of rows, cut by their number alone: sums and counts (pieces, n) of finite elements.
template <class A>
__global__ void partial_means_kernel(int64_t rows, int64_t rows_of_piece, int64_t n,
                                     Rows<const A> x, float* sums, float* counts) {
  const int64_t pieces = ceil_divide(rows, rows_of_piece);
  for_vectors<1>(pieces, n, [&](int64_t piece, int64_t i) {
    const int64_t end = piece + 1 == pieces ? rows : (piece + 1) * rows_of_piece;
    float sum = 0;
    float count = 0;
    for (int64_t row = piece * rows_of_piece; row < end; ++row) {
      const float value = to_float(x[row][i]);
      if (!is_finite(value)) continue;
      sum += value;
      ++count;
    }
    sums[piece * n + i] = sum;
    counts[piece * n + i] = count;
  });
}

__global__ void means_kernel(int64_t pieces, int64_t n, const float* sums, const float* counts,
                             float* means) {
  for_vectors<1>(1, n, [&](int64_t, int64_t i) {
    float sum = 0;
    float count = 0;
    for (int64_t p = 0; p < pieces; ++p) {
      sum += sums[p * n + i];
      count += counts[p * n + i];
    }
    means[i] = count == 0 ? 0.0F : sum / count;
  });
}

/// A warp a head of a row.
__global__ void shift_lse_kernel(int64_t rows, int64_t heads, int64_t group, int64_t d,
                                 Rows<const e4m3> codes, const float* scale, const float* centre,
                                 float factor, Rows<float> lse) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (item >= rows * heads) return;
  const int64_t row = item / heads;
  const int64_t h = item - row * heads;
  const e4m3* q = codes[row] + h * d;
  const float* to = centre + h / group * d;
  float sum = 0;
  for (int64_t i = threadIdx.x % 32; i < d; i += 32) sum += to_float(q[i]) * to[i];
  sum = lanes_sum(sum);
  float* at = lse[row] + h;
  if (threadIdx.x % 32 == 0 && *at != -std::numeric_limits<float>::infinity())
    *at += factor * *scale * sum;
}

}  // namespace

void quantize(cudaStream_t stream, Memory& memory, ConstView x, View codes, View scales,
              std::optional<ConstView> centre) {
  if (x.empty()) return;
  const float* taken = centre ? centre->data<float>() : nullptr;
  const int64_t parts = scales.dim(0);
  const int64_t width = x.row_elements() / parts;
  with_activation(x.dtype(), [&]<class A>(A) {
    with_width<A>(
        fits_vectors({operand(x), operand(codes)}, width, kFullWidth<A>), [&](auto vector) {
          constexpr int kWidth = decltype(vector)::value;
          const RowGrid grid = row_grid(x.rows(), ceil_divide(width, kWidth));
          const int64_t blocks = grid.blocks_y < kMostBlocks ? grid.blocks_y : kMostBlocks;
          const dim3 shape(static_cast<unsigned>(blocks), static_cast<unsigned>(parts));
          const Scratch partial(memory, parts * blocks * size_of(DType::f32));
          launch(largest_kernel<kWidth, A>, {shape, threads_of(grid), stream}, x.rows(), width,
                 rows_of<A>(x), taken, partial.as<float>());
          launch(quantize_kernel<kWidth, A>, {shape, threads_of(grid), stream}, x.rows(), width,
                 rows_of<A>(x), taken, partial.as<float>(), rows_of<e4m3>(codes),
                 scales.data<float>());
        });
  });
}

void column_means(cudaStream_t stream, Memory& memory, ConstView x, View means) {
  constexpr int64_t kMostPieces = 512;
  const int64_t n = x.row_elements();
  const RowPieces cut = row_pieces(x.rows(), kMostPieces);
  const Scratch partial(memory, 2 * cut.pieces * n * size_of(DType::f32));
  float* const counts = partial.as<float>() + cut.pieces * n;
  if (cut.pieces > 0) {
    const RowGrid grid = row_grid(cut.pieces, n);
    with_activation(x.dtype(), [&]<class A>(A) {
      launch(partial_means_kernel<A>, {blocks_of(grid), threads_of(grid), stream}, x.rows(),
             cut.rows_of_piece, n, rows_of<A>(x), partial.as<float>(), counts);
    });
  }
  const RowGrid grid = row_grid(1, n);
  launch(means_kernel, {blocks_of(grid), threads_of(grid), stream}, cut.pieces, n,
         partial.as<float>(), counts, means.data<float>());
}

void shift_lse(cudaStream_t stream, const E4m3View& q, ConstView centre, float factor, View lse) {
  if (lse.empty()) return;
  const int64_t heads = lse.dim(1);
  const auto blocks = static_cast<unsigned>(ceil_divide(lse.rows() * heads, kThreads / 32));
  launch(shift_lse_kernel, {blocks, kThreads, stream}, lse.rows(), heads, heads / centre.dim(0),
         q.codes.dim(2), rows_of<e4m3>(q.codes), q.scale.data<float>(), centre.data<float>(),
         factor, rows_of<float>(lse));
}

void fill_fp8_scales(cudaStream_t stream, const E4m3View& q, const E4m3View& k, const E4m3View& v,
                     float* scales) {
  const RowGrid grid = row_grid(1, 1);
  launch(fp8_scales_kernel, {blocks_of(grid), threads_of(grid), stream}, q.scale.data<float>(),
         k.scale.data<float>(), v.scale.data<float>(), scales);
}

void dequantize_rows(cudaStream_t stream, const E4m3View& x, int64_t begin, int64_t count,
                     int64_t step, int64_t batch, View to) {
  const int64_t n = x.codes.row_elements();
  with_width<bf16>(fits_vectors({operand(x.codes), operand(to)}, n, kFullWidth<bf16>),
                   [&](auto width) {
                     constexpr int kWidth = decltype(width)::value;
                     const RowGrid grid = row_grid(batch * count, n / kWidth);
                     launch(dequantize_kernel<kWidth>, {blocks_of(grid), threads_of(grid), stream},
                            begin, count, step, batch * count, n, rows_of<e4m3>(x.codes),
                            x.scale.data<float>(), to.data<bf16>());
                   });
}

}  // namespace ringbolt::cuda
