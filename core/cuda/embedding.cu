// The embedding table: rows out, gradients in. Sorting the tokens by id, and those of one id by
// their place, gives each row of the gradient to one block, which adds in the order of the tokens:
// no atomics, the same bits every time.
#include <cub/device/device_radix_sort.cuh>

#include "core/cuda/device.cuh"
#include "core/cuda/rowwise.h"

namespace ringbolt::cuda {
namespace {

template <int kWidth, class A>
__global__ void gather_kernel(int64_t rows, int64_t n, Rows<const A> table, const int32_t* ids,
                              Rows<A> y) {
  for_vectors<kWidth>(rows, n, [&](int64_t row, int64_t i) {
    store<kWidth>(y[row] + i, load<kWidth>(table[ids[row]] + i));
  });
}

__global__ void count_up_kernel(int64_t n, int32_t* x) {
  for_vectors<1>(1, n, [&](int64_t, int64_t i) { x[i] = static_cast<int32_t>(i); });
}

/// `sorted` ids with their `tokens`. Block (x, y) has a piece of columns and the run of equal ids
/// that begins at y; most blocks find that none begins there, and end.
template <int kWidth, class A>
__global__ void scatter_kernel(int64_t tokens, int64_t n, const int32_t* sorted,
                               const int32_t* token, Rows<const A> dy, Rows<float> dtable) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  if (i >= n) return;
  for (int64_t first = blockIdx.y; first < tokens; first += gridDim.y) {
    const int32_t id = sorted[first];
    if (first > 0 && sorted[first - 1] == id) continue;
    float* row = dtable[id] + i;
    auto sum = load<kWidth>(row);
    for (int64_t at = first; at < tokens && sorted[at] == id; ++at) {
      const auto x = load<kWidth>(dy[token[at]] + i);
      for (int j = 0; j < kWidth; ++j) sum.at[j] += to_float(x.at[j]);
    }
    store<kWidth>(row, sum);
  }
}

}  // namespace

void embedding_forward(cudaStream_t stream, ConstView table, ConstView ids, View y) {
  if (y.empty()) return;
  const int64_t n = y.row_elements();
  with_activation(y.dtype(), [&]<class A>(A) {
    with_width<A>(fits_vectors({operand(table), operand(y)}, n, kFullWidth<A>), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowGrid grid = row_grid(y.rows(), n / kWidth);
      launch(gather_kernel<kWidth, A>, {blocks_of(grid), threads_of(grid), stream}, y.rows(), n,
             rows_of<A>(table), ids.data<int32_t>(), rows_of<A>(y));
    });
  });
}

void embedding_backward(cudaStream_t stream, Memory& memory, ConstView dy, ConstView ids,
                        View dtable) {
  if (dy.empty()) return;
  const int64_t tokens = dy.rows();
  const int64_t n = dy.row_elements();
  const int64_t bytes = tokens * static_cast<int64_t>(sizeof(int32_t));
  const Scratch places(memory, bytes);
  const Scratch sorted_ids(memory, bytes);
  const Scratch sorted_places(memory, bytes);
  const RowGrid count = row_grid(1, tokens);
  launch(count_up_kernel, {blocks_of(count), threads_of(count), stream}, tokens,
         places.as<int32_t>());
  const auto sort = [&](void* temporary, size_t& size) {  // a radix sort is stable
    RINGBOLT_CUDA(cub::DeviceRadixSort::SortPairs(
        temporary, size, ids.data<int32_t>(), sorted_ids.as<int32_t>(), places.as<int32_t>(),
        sorted_places.as<int32_t>(), tokens, 0, 31, stream));
  };
  size_t size = 0;
  sort(nullptr, size);
  const Scratch temporary(memory, static_cast<int64_t>(size));
  sort(temporary.as<void>(), size);
  with_activation(dy.dtype(), [&]<class A>(A) {
    with_width<A>(fits_vectors({operand(dy), operand(dtable)}, n, kFullWidth<A>), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const int threads = row_grid(1, n / kWidth).threads_x;
      const dim3 blocks(static_cast<unsigned>(ceil_divide(n / kWidth, threads)),
                        static_cast<unsigned>(tokens < kMostGridY ? tokens : kMostGridY));
      launch(scatter_kernel<kWidth, A>, {blocks, threads, stream}, tokens, n,
             sorted_ids.as<int32_t>(), sorted_places.as<int32_t>(), rows_of<A>(dy),
             rows_of<float>(dtable));
    });
  });
}

}  // namespace ringbolt::cuda
