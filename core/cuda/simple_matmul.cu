// A plain tiled product, for the few shapes and strides that cuBLASLt refuses. Correct for all of
// them; not fast.
#include "core/cuda/cublas.h"
#include "core/cuda/device.cuh"

namespace ringbolt::cuda {
namespace {

constexpr int kTile = 16;

/// Element (i, j) of op(x) is data[i * row + j * column].
template <class T>
struct Strided {
  T* data;
  int64_t row;
  int64_t column;
};

template <class T, class AnyView>
Strided<T> strided(AnyView x, Transpose transpose) {
  T* data = x.template data<std::remove_const_t<T>>();
  if (transpose == Transpose::yes) return {data, 1, x.row_stride()};
  return {data, x.row_stride(), 1};
}

/// bias (N), or null.
template <class A, class C, class Bias>
__global__ void tile_kernel(int64_t m, int64_t n, int64_t inner, Strided<const A> a,
                            Strided<const A> b, Strided<C> c, bool accumulate, const Bias* bias) {
  __shared__ float left[kTile][kTile + 1];
  __shared__ float right[kTile][kTile + 1];
  const int x = static_cast<int>(threadIdx.x);
  const int y = static_cast<int>(threadIdx.y);
  const int64_t j = static_cast<int64_t>(blockIdx.x) * kTile + x;
  for (int64_t first = static_cast<int64_t>(blockIdx.y) * kTile; first < m;
       first += int64_t{gridDim.y} * kTile) {
    const int64_t i = first + y;
    float sum = 0;
    for (int64_t k = 0; k < inner; k += kTile) {
      left[y][x] = i < m && k + x < inner ? to_float(a.data[i * a.row + (k + x) * a.column]) : 0.0F;
      right[y][x] =
          j < n && k + y < inner ? to_float(b.data[(k + y) * b.row + j * b.column]) : 0.0F;
      __syncthreads();
      for (int l = 0; l < kTile; ++l) sum += left[y][l] * right[l][x];
      __syncthreads();
    }
    if (i >= m || j >= n) continue;
    C* to = c.data + i * c.row + j * c.column;
    const float added = bias == nullptr ? 0.0F : to_float(bias[j]);
    *to = from_float<C>((accumulate ? to_float(*to) : 0.0F) + sum + added);
  }
}

}  // namespace

void simple_matmul(cudaStream_t stream, ConstView a, Transpose transpose_a, ConstView b,
                   Transpose transpose_b, View c, Update update, std::optional<ConstView> bias) {
  const int64_t m = c.rows();
  const int64_t n = c.row_elements();
  const int64_t inner = transpose_a == Transpose::yes ? a.rows() : a.row_elements();
  const int64_t blocks_y = ceil_divide(m, kTile);
  const dim3 blocks(static_cast<unsigned>(ceil_divide(n, kTile)),
                    static_cast<unsigned>(blocks_y < kMostGridY ? blocks_y : kMostGridY));
  with_activation(a.dtype(), [&]<class A>(A) {
    with_activation(c.dtype(), [&]<class C>(C) {
      with_activation(bias ? bias->dtype() : DType::f32, [&]<class Bias>(Bias) {
        launch(tile_kernel<A, C, Bias>, {blocks, dim3(kTile, kTile), stream}, m, n, inner,
               strided<const A>(a, transpose_a), strided<const A>(b, transpose_b),
               strided<C>(c, Transpose::no), update == Update::accumulate,
               bias ? bias->data<Bias>() : nullptr);
      });
    });
  });
}

}  // namespace ringbolt::cuda
