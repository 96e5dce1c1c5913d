// The gradient of rotary angles: a thread a token and pair, which adds up the heads in order.
#include "core/cuda/device.cuh"
#include "core/cuda/rowwise.h"

namespace ringbolt::cuda {
namespace {

template <class A>
struct AngleArguments {
  Rows<const A> x;
  Rows<const A> dx;
  Rows<float> dangles;
  int64_t heads;
  int64_t head_dim;
  int64_t to_first;   ///< element of pair i: i * to_first
  int64_t to_second;  ///< and its partner's distance from there
};

template <class A>
__global__ void rotary_angle_backward_kernel(int64_t rows, int64_t pairs, AngleArguments<A> a) {
  for_vectors<1>(rows, pairs, [&](int64_t t, int64_t i) {
    float sum = a.dangles[t][i];
    for (int64_t h = 0; h < a.heads; ++h) {
      const int64_t first = h * a.head_dim + i * a.to_first;
      const int64_t second = first + a.to_second;
      sum += formulas::angle_gradient(to_float(a.x[t][first]), to_float(a.x[t][second]),
                                      to_float(a.dx[t][first]), to_float(a.dx[t][second]));
    }
    a.dangles[t][i] = sum;
  });
}

}  // namespace

void rotary_angle_backward(cudaStream_t stream, ConstView x, ConstView dx, RotaryPairing pairing,
                           View dangles) {
  if (x.empty() || dangles.empty()) return;
  const int64_t pairs = dangles.row_elements();
  const bool interleaved = pairing == RotaryPairing::interleaved;
  with_activation(x.dtype(), [&]<class A>(A) {
    const AngleArguments<A> arguments{
        rows_of<A>(x), rows_of<A>(dx),      rows_of<float>(dangles), x.dim(1),
        x.dim(2),      interleaved ? 2 : 1, interleaved ? 1 : pairs};
    const RowGrid grid = row_grid(x.rows(), pairs);
    launch(rotary_angle_backward_kernel<A>, {blocks_of(grid), threads_of(grid), stream}, x.rows(),
           pairs, arguments);
  });
}

}  // namespace ringbolt::cuda
