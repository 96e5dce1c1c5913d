// What kernels share: vectors of elements, sums over warps and blocks in a fixed order, launches.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "core/base/bf16.h"
#include "core/base/error.h"
#include "core/cuda/index.h"
#include "core/cuda/runtime.h"
#include "core/formulas/rowwise.h"
#include "core/tensor/tensor.h"

namespace ringbolt::cuda {

/// kWidth elements that one thread moves at a time.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth < kAccessBytes ? sizeof(T) * kWidth : kAccessBytes) Vector {
  T at[kWidth];
};

template <int kWidth, class T>
__device__ inline Vector<T, kWidth> load(const T* p) {
  return *reinterpret_cast<const Vector<T, kWidth>*>(p);
}
template <int kWidth, class T>
__device__ inline void store(T* p, const Vector<T, kWidth>& x) {
  *reinterpret_cast<Vector<T, kWidth>*>(p) = x;
}

/// Elements of A that fill the widest access.
template <class A>
inline constexpr int kFullWidth = kAccessBytes / static_cast<int>(sizeof(A));

/// Rows of a view, as a kernel takes them. T may be const.
template <class T>
struct Rows {
  T* data;
  int64_t stride;  ///< elements
  __device__ T* operator[](int64_t row) const { return data + row * stride; }
};

template <class T>
Rows<T> rows_of(View x) {
  return {x.data<std::remove_const_t<T>>(), x.row_stride()};
}
template <class T>
Rows<const T> rows_of(ConstView x) {
  return {x.data<T>(), x.row_stride()};
}

template <bool kConst>
Operand operand(const BasicView<kConst>& x) {
  const int64_t bytes = size_of(x.dtype());
  return {reinterpret_cast<uint64_t>(x.bytes()), x.rows() <= 1 ? 0 : x.row_stride() * bytes,
          static_cast<int>(bytes)};
}

/// Sums over the kLanes threads of an aligned group of a warp, the same bits in each. All 32
/// threads must call.
template <int kLanes = 32, class T>
__device__ inline T lanes_sum(T x) {
  for (int offset = kLanes / 2; offset > 0; offset /= 2)
    x += __shfl_xor_sync(0xffffffffU, x, offset);
  return x;
}

/// The largest of the kLanes threads' floats, in each of them. All 32 threads must call.
template <int kLanes = 32>
__device__ inline float lanes_largest(float x) {
  for (int offset = kLanes / 2; offset > 0; offset /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, offset));
  return x;
}

/// The sum over a block of kThreads, in every thread; `shared` has room for a T a warp. Ends with
/// shared free again.
template <class T>
__device__ inline T block_sum(T x, T* shared) {
  x = lanes_sum(x);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  T sum = shared[0];
  for (int warp = 1; warp < kThreads / 32; ++warp) sum += shared[warp];
  __syncthreads();
  return sum;
}

/// Calls body(A{}) with the type of activations.
template <class Body>
void with_activation(DType dtype, const Body& body) {
  if (dtype == DType::bf16) {
    body(bf16{});
  } else {
    RINGBOLT_CHECK(dtype == DType::f32);
    body(float{});
  }
}

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

/// Calls body(Constant<W>) with the full width of A where the operands allow it, else with 1.
template <class A, class Body>
void with_width(bool fits, const Body& body) {
  if (fits) {
    body(Constant<kFullWidth<A>>{});
  } else {
    body(Constant<1>{});
  }
}

/// What a launch is besides its kernel.
struct LaunchShape {
  dim3 blocks;
  dim3 threads;  ///< of a block
  cudaStream_t stream;
  size_t shared_bytes = 0;  ///< that dynamic_shared() points to
};

/// Launches the kernel with the arguments, each converted to the type of its parameter. Stream:
/// asynchronous on the shape's. Throws: DeviceError where the launch is refused, naming the kernel.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const LaunchShape& shape, Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = shape.blocks;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = shape.stream;
  const cudaError_t status =
      cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
  if (status == cudaSuccess) return;
  const char* name = nullptr;
  if (cudaFuncGetName(&name, reinterpret_cast<const void*>(kernel)) != cudaSuccess) name = "?";
  check(status, concat("launching ", name).c_str());
}

inline dim3 blocks_of(const RowGrid& grid) {
  return dim3(static_cast<unsigned>(grid.blocks_x), static_cast<unsigned>(grid.blocks_y));
}
inline dim3 threads_of(const RowGrid& grid) {
  return dim3(static_cast<unsigned>(grid.threads_x), static_cast<unsigned>(grid.threads_y));
}

/// In a kernel on a RowGrid: body(row, first element) for each of this thread's vectors.
template <int kWidth, class Body>
__device__ inline void for_vectors(int64_t rows, int64_t row_elements, const Body& body) {
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  if (column >= row_elements) return;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.y;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < rows;
       row += step) {
    body(row, column);
  }
}

/// Rows x row_elements of an operation without strides between rows are one long row. (A row too
/// long for a grid is not: 2^31 blocks of 256 vectors are 2^39 elements.)
struct FlatShape {
  int64_t rows;
  int64_t row_elements;
};

}  // namespace ringbolt::cuda
