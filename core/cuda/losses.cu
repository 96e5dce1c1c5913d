// Cross entropy, and the sum of squares behind the gradient's norm.
#include <limits>

#include "core/cuda/device.cuh"
#include "core/cuda/rowwise.h"

namespace ringbolt::cuda {
namespace {

constexpr int kWarps = kThreads / 32;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// What a thread, a warp, a block knows of a row so far: its maximum, where that is first, and the
/// sum of e^(logit - maximum). Equal maxima: the smaller index wins, as in core/backend/backend.h.
struct RowState {
  float maximum;
  int first;
  float sum;
};

__device__ inline RowState join(RowState a, RowState b) {
  if (b.maximum == kMinusInfinity) return a;
  if (a.maximum == kMinusInfinity) return b;
  const bool keep_a = a.maximum > b.maximum || (a.maximum == b.maximum && a.first < b.first);
  const RowState& high = keep_a ? a : b;
  const RowState& low = keep_a ? b : a;
  return {high.maximum, high.first,
          high.sum + low.sum * formulas::exp_f32(low.maximum - high.maximum)};
}

__device__ inline RowState lanes_join(RowState s) {
  for (int offset = 16; offset > 0; offset /= 2) {
    const RowState other{__shfl_xor_sync(0xffffffffU, s.maximum, offset),
                         __shfl_xor_sync(0xffffffffU, s.first, offset),
                         __shfl_xor_sync(0xffffffffU, s.sum, offset)};
    s = join(s, other);
  }
  return s;
}

__device__ inline RowState block_join(RowState s, RowState* shared) {
  s = lanes_join(s);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = s;
  __syncthreads();
  s = shared[0];
  for (int warp = 1; warp < kWarps; ++warp) s = join(s, shared[warp]);
  return s;
}

template <class Gradient>
struct CrossEntropy {
  int64_t vocab;
  Rows<const float> logits;
  const int32_t* targets;
  float* losses;
  int32_t* hits;
  Rows<Gradient> gradient;  ///< null data: none wanted; may be the logits
  float scale;
};

/// One pass over a row: each thread adds vectors to a running maximum and sum.
template <int kWidth>
__device__ inline RowState read_row(const float* logits, int64_t vocab) {
  RowState state{kMinusInfinity, 0, 0};
  for (int64_t i = int64_t{threadIdx.x} * kWidth; i < vocab; i += int64_t{kThreads} * kWidth) {
    const auto x = load<kWidth>(logits + i);
    for (int j = 0; j < kWidth; ++j) {
      if (x.at[j] > state.maximum) {
        state.sum = state.maximum == kMinusInfinity
                        ? 0.0F
                        : state.sum * formulas::exp_f32(state.maximum - x.at[j]);
        state.maximum = x.at[j];
        state.first = static_cast<int>(i) + j;
      }
      if (state.maximum != kMinusInfinity) state.sum += formulas::exp_f32(x.at[j] - state.maximum);
    }
  }
  return state;
}

/// One block a row.
template <int kWidth, class Gradient>
__global__ void __launch_bounds__(kThreads) cross_entropy_kernel(CrossEntropy<Gradient> a) {
  __shared__ RowState shared[kWarps];
  const int64_t row = blockIdx.x;
  const int32_t target = a.targets[row];
  const float* logits = a.logits[row];
  Gradient* gradient = a.gradient.data == nullptr ? nullptr : a.gradient[row];
  if (target < 0) {
    if (threadIdx.x == 0) {
      a.losses[row] = 0;
      a.hits[row] = 0;
    }
    if (gradient == nullptr) return;
    for (int64_t i = int64_t{threadIdx.x} * kWidth; i < a.vocab; i += int64_t{kThreads} * kWidth) {
      store<kWidth>(gradient + i, Vector<Gradient, kWidth>{});
    }
    return;
  }
  const float target_logit = logits[target];  // before the gradient may take its place
  const RowState state = block_join(read_row<kWidth>(logits, a.vocab), shared);
  const float loss = state.maximum + logf(state.sum) - target_logit;
  if (threadIdx.x == 0) {
    a.losses[row] = loss;
    a.hits[row] = state.first == target ? 1 : 0;
  }
  if (gradient == nullptr) return;
  const float factor = a.scale / state.sum;
  const float at_target = (expf(-loss) - 1.0F) * a.scale;
  for (int64_t i = int64_t{threadIdx.x} * kWidth; i < a.vocab; i += int64_t{kThreads} * kWidth) {
    const auto x = load<kWidth>(logits + i);
    Vector<Gradient, kWidth> out;
    for (int j = 0; j < kWidth; ++j) {
      const float value = formulas::exp_f32(x.at[j] - state.maximum) * factor;
      out.at[j] = from_float<Gradient>(i + j == target ? at_target : value);
    }
    store<kWidth>(gradient + i, out);
  }
}

constexpr int64_t kSquarePieces = 1024;

/// partial (pieces) = sums of squares of runs of `each` elements.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    squares_kernel(int64_t n, int64_t each, const float* x, double* partial) {
  __shared__ double shared[kWarps];
  const int64_t begin = blockIdx.x * each;
  const int64_t end = begin + each < n ? begin + each : n;
  double sum = 0;
  for (int64_t i = begin + int64_t{threadIdx.x} * kWidth; i < end;
       i += int64_t{kThreads} * kWidth) {
    const auto v = load<kWidth>(x + i);
    for (int j = 0; j < kWidth; ++j)
      sum += static_cast<double>(v.at[j]) * static_cast<double>(v.at[j]);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    add_doubles_kernel(int64_t n, const double* partial, double* result) {
  __shared__ double shared[kWarps];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) sum += partial[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *result = sum;
}

}  // namespace

void cross_entropy(cudaStream_t stream, const CrossEntropyViews& views, float gradient_scale) {
  if (views.logits.empty()) return;
  const int64_t vocab = views.logits.row_elements();
  const bool with_gradient = !views.gradient.empty();
  const auto rows = static_cast<unsigned>(views.logits.rows());
  with_activation(
      with_gradient ? views.gradient.dtype() : DType::f32, [&]<class Gradient>(Gradient) {
        const Rows<Gradient> gradient =
            with_gradient ? rows_of<Gradient>(views.gradient) : Rows<Gradient>{nullptr, 0};
        const CrossEntropy<Gradient> arguments{vocab,
                                               rows_of<float>(views.logits),
                                               views.targets.data<int32_t>(),
                                               views.losses.data<float>(),
                                               views.hits.data<int32_t>(),
                                               gradient,
                                               gradient_scale};
        const bool fits =
            fits_vectors({operand(views.logits)}, vocab, kFullWidth<float>) &&
            (!with_gradient || fits_vectors({operand(views.gradient)}, vocab, kFullWidth<float>));
        with_width<float>(fits, [&](auto width) {
          launch(cross_entropy_kernel<decltype(width)::value, Gradient>, {rows, kThreads, stream},
                 arguments);
        });
      });
}

void sum_of_squares(cudaStream_t stream, Memory& memory, ConstView x, double* result) {
  const int64_t n = x.elements();
  // Pieces of whole vectors, so that each begins aligned where x does.
  const int64_t each = round_up(ceil_divide(n, kSquarePieces), kFullWidth<float>);
  const int64_t pieces = n == 0 ? 0 : ceil_divide(n, each);
  const Scratch partial(memory, pieces * static_cast<int64_t>(sizeof(double)));
  if (n > 0) {
    with_width<float>(fits_vectors({operand(x)}, n, kFullWidth<float>), [&](auto width) {
      launch(squares_kernel<decltype(width)::value>,
             {static_cast<unsigned>(pieces), kThreads, stream}, n, each, x.data<float>(),
             partial.as<double>());
    });
  }
  launch(add_doubles_kernel, {1, kThreads, stream}, pieces, partial.as<double>(), result);
}

}  // namespace ringbolt::cuda
