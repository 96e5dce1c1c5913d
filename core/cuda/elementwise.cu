// Operations without sums: each thread moves vectors of one row.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/cuda/device.cuh"
#include "core/cuda/rowwise.h"

namespace ringbolt::cuda {
namespace {

/// Contiguous operands are one long row; otherwise rows stay rows.
template <class... Views>
FlatShape flat_shape(int64_t rows, int64_t row_elements, const Views&... views) {
  if ((views.is_contiguous() && ...)) return {1, rows * row_elements};
  return {rows, row_elements};
}

template <int kWidth, class From, class To>
__global__ void convert_kernel(int64_t rows, int64_t n, Rows<const From> x, Rows<To> y) {
  for_vectors<kWidth>(rows, n, [&](int64_t row, int64_t i) {
    const auto from = load<kWidth>(x[row] + i);
    Vector<To, kWidth> to;
    for (int j = 0; j < kWidth; ++j) to.at[j] = from_float<To>(to_float(from.at[j]));
    store<kWidth>(y[row] + i, to);
  });
}

template <int kWidth, class A>
__global__ void add_kernel(int64_t rows, int64_t n, Rows<const A> x, Rows<float> y) {
  for_vectors<kWidth>(rows, n, [&](int64_t row, int64_t i) {
    const auto from = load<kWidth>(x[row] + i);
    auto to = load<kWidth>(y[row] + i);
    for (int j = 0; j < kWidth; ++j) to.at[j] += to_float(from.at[j]);
    store<kWidth>(y[row] + i, to);
  });
}

template <class Bias, class A>
__global__ void add_bias_kernel(int64_t rows, int64_t n, const Bias* bias, Rows<A> y) {
  for_vectors<1>(rows, n, [&](int64_t row, int64_t i) {
    y[row][i] = from_float<A>(to_float(y[row][i]) + to_float(bias[i]));
  });
}

template <int kWidth, class A>
__global__ void swiglu_forward_kernel(int64_t rows, int64_t n, Rows<const A> gate_up, Rows<A> y) {
  for_vectors<kWidth>(rows, n, [&](int64_t row, int64_t i) {
    const auto gate = load<kWidth>(gate_up[row] + i);
    const auto up = load<kWidth>(gate_up[row] + n + i);
    Vector<A, kWidth> out;
    for (int j = 0; j < kWidth; ++j) {
      out.at[j] = from_float<A>(formulas::swiglu(to_float(gate.at[j]), to_float(up.at[j])));
    }
    store<kWidth>(y[row] + i, out);
  });
}

template <int kWidth, class A>
__global__ void swiglu_backward_kernel(int64_t rows, int64_t n, Rows<const A> dy, Rows<A> gate_up) {
  for_vectors<kWidth>(rows, n, [&](int64_t row, int64_t i) {
    auto gate = load<kWidth>(gate_up[row] + i);
    auto up = load<kWidth>(gate_up[row] + n + i);
    const auto g = load<kWidth>(dy[row] + i);
    for (int j = 0; j < kWidth; ++j) {
      const auto gradient =
          formulas::swiglu_backward(to_float(gate.at[j]), to_float(up.at[j]), to_float(g.at[j]));
      gate.at[j] = from_float<A>(gradient.first);
      up.at[j] = from_float<A>(gradient.second);
    }
    store<kWidth>(gate_up[row] + i, gate);
    store<kWidth>(gate_up[row] + n + i, up);
  });
}

/// Where the heads of x (T, N, D) lie and how they turn. sign -1 turns back.
template <class A>
struct RotaryArguments {
  Rows<A> x;
  Rows<const float> cos;
  Rows<const float> sin;
  const float* scale;  ///< (T), or null
  int64_t head_dim;
  int64_t pairs;
  float sign;
};

/// One row of the grid is one head of one token: rows = T N, n = D / 2 pairs, of which the first
/// `pairs` turn; the others are only scaled.
template <int kWidth, class A>
__global__ void rotary_half_split_kernel(int64_t rows, int64_t n, int64_t heads,
                                         RotaryArguments<A> a) {
  for_vectors<kWidth>(rows, n, [&](int64_t row, int64_t i) {
    const int64_t t = row / heads;
    A* head = a.x[t] + (row - t * heads) * a.head_dim;
    const float factor = a.scale == nullptr ? 1.0F : a.scale[t];
    const bool turns = i < a.pairs;
    A* low_at = turns ? head + i : head + 2 * a.pairs + 2 * (i - a.pairs);
    A* high_at = turns ? head + a.pairs + i : low_at + kWidth;
    auto low = load<kWidth>(low_at);
    auto high = load<kWidth>(high_at);
    for (int j = 0; j < kWidth; ++j) {
      formulas::Pair turned{to_float(low.at[j]), to_float(high.at[j])};
      if (turns)
        turned = formulas::rotate(turned.first, turned.second, a.cos[t][i + j],
                                  a.sign * a.sin[t][i + j]);
      low.at[j] = from_float<A>(factor * turned.first);
      high.at[j] = from_float<A>(factor * turned.second);
    }
    store<kWidth>(low_at, low);
    store<kWidth>(high_at, high);
  });
}

/// As above, kWidth pairs of neighbours a thread; a single pair is not promised to be aligned to
/// itself.
template <int kWidth, class A>
__global__ void rotary_interleaved_kernel(int64_t rows, int64_t n, int64_t heads,
                                          RotaryArguments<A> a) {
  for_vectors<kWidth>(rows, n, [&](int64_t row, int64_t i) {
    const int64_t t = row / heads;
    A* at = a.x[t] + (row - t * heads) * a.head_dim + 2 * i;
    const float factor = a.scale == nullptr ? 1.0F : a.scale[t];
    Vector<A, 2 * kWidth> x;
    if constexpr (kWidth == 1) {
      x.at[0] = at[0];
      x.at[1] = at[1];
    } else {
      x = load<2 * kWidth>(at);
    }
    for (int j = 0; j < kWidth; ++j) {
      formulas::Pair turned{to_float(x.at[2 * j]), to_float(x.at[2 * j + 1])};
      if (i + j < a.pairs) {
        turned = formulas::rotate(turned.first, turned.second, a.cos[t][i + j],
                                  a.sign * a.sin[t][i + j]);
      }
      x.at[2 * j] = from_float<A>(factor * turned.first);
      x.at[2 * j + 1] = from_float<A>(factor * turned.second);
    }
    if constexpr (kWidth == 1) {
      at[0] = x.at[0];
      at[1] = x.at[1];
    } else {
      store<2 * kWidth>(at, x);
    }
  });
}

struct AdamWArguments {
  float learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale, correction1,
      correction2;
};

/// `weight` is the master itself (A = float), or receives the rounded result.
template <int kWidth, class A>
__global__ void adamw_kernel(int64_t n, AdamWArguments a, const float* gradient, float* master,
                             float* m, float* v, A* weight) {
  for_vectors<kWidth>(1, n, [&](int64_t, int64_t i) {
    const auto g = load<kWidth>(gradient + i);
    auto masters = load<kWidth>(master + i);
    auto ms = load<kWidth>(m + i);
    auto vs = load<kWidth>(v + i);
    Vector<A, kWidth> rounded;
    for (int j = 0; j < kWidth; ++j) {
      const auto next = formulas::adamw(
          {masters.at[j], ms.at[j], vs.at[j]}, g.at[j] * a.gradient_scale, a.learning_rate, a.beta1,
          a.beta2, a.epsilon, a.weight_decay, a.correction1, a.correction2);
      masters.at[j] = next.master;
      ms.at[j] = next.m;
      vs.at[j] = next.v;
      rounded.at[j] = from_float<A>(next.master);
    }
    store<kWidth>(master + i, masters);
    store<kWidth>(m + i, ms);
    store<kWidth>(v + i, vs);
    if (static_cast<void*>(weight) != static_cast<void*>(master))
      store<kWidth>(weight + i, rounded);
  });
}

__global__ void fill_kernel(int64_t rows, int64_t n, Rows<float> x, float value) {
  for_vectors<1>(rows, n, [&](int64_t row, int64_t i) { x[row][i] = value; });
}

void copy_rows(cudaStream_t stream, ConstView x, View y) {
  const auto row_bytes = static_cast<size_t>(x.row_elements() * size_of(x.dtype()));
  if (x.is_contiguous() && y.is_contiguous()) {
    RINGBOLT_CUDA(cudaMemcpyAsync(y.bytes(), x.bytes(), row_bytes * static_cast<size_t>(x.rows()),
                                  cudaMemcpyDeviceToDevice, stream));
    return;
  }
  const auto pitch = [](const auto& view) {
    return static_cast<size_t>(view.row_stride() * size_of(view.dtype()));
  };
  RINGBOLT_CUDA(cudaMemcpy2DAsync(y.bytes(), pitch(y), x.bytes(), pitch(x), row_bytes,
                                  static_cast<size_t>(x.rows()), cudaMemcpyDeviceToDevice, stream));
}

}  // namespace

void convert(cudaStream_t stream, ConstView x, View y) {
  RINGBOLT_CHECK(x.shape() == y.shape());
  if (x.empty()) return;
  if (x.dtype() == y.dtype()) return copy_rows(stream, x, y);
  const FlatShape s = flat_shape(x.rows(), x.row_elements(), x, y);
  const bool fits = fits_vectors({operand(x), operand(y)}, s.row_elements, kFullWidth<bf16>);
  with_width<bf16>(fits, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    const RowGrid grid = row_grid(s.rows, s.row_elements / kWidth);
    if (y.dtype() == DType::bf16) {
      launch(convert_kernel<kWidth, float, bf16>, {blocks_of(grid), threads_of(grid), stream},
             s.rows, s.row_elements, rows_of<float>(x), rows_of<bf16>(y));
    } else {
      launch(convert_kernel<kWidth, bf16, float>, {blocks_of(grid), threads_of(grid), stream},
             s.rows, s.row_elements, rows_of<bf16>(x), rows_of<float>(y));
    }
  });
}

void add(cudaStream_t stream, ConstView x, View y) {
  RINGBOLT_CHECK(x.shape() == y.shape());
  if (x.empty()) return;
  const FlatShape s = flat_shape(x.rows(), x.row_elements(), x, y);
  with_activation(x.dtype(), [&]<class A>(A) {
    with_width<A>(fits_vectors({operand(x), operand(y)}, s.row_elements, kFullWidth<A>),
                  [&](auto width) {
                    constexpr int kWidth = decltype(width)::value;
                    const RowGrid grid = row_grid(s.rows, s.row_elements / kWidth);
                    launch(add_kernel<kWidth, A>, {blocks_of(grid), threads_of(grid), stream},
                           s.rows, s.row_elements, rows_of<A>(x), rows_of<float>(y));
                  });
  });
}

void add_bias(cudaStream_t stream, ConstView bias, View y) {
  if (y.empty()) return;
  const RowGrid grid = row_grid(y.rows(), y.row_elements());
  with_activation(bias.dtype(), [&]<class Bias>(Bias) {
    with_activation(y.dtype(), [&]<class A>(A) {
      launch(add_bias_kernel<Bias, A>, {blocks_of(grid), threads_of(grid), stream}, y.rows(),
             y.row_elements(), bias.data<Bias>(), rows_of<A>(y));
    });
  });
}

void rotary(cudaStream_t stream, View x, ConstView cos, ConstView sin, RotaryPairing pairing,
            RotaryDirection direction, std::optional<ConstView> scale) {
  if (x.empty()) return;
  const int64_t heads = x.dim(1);
  const int64_t head_dim = x.dim(2);
  const int64_t pairs = cos.row_elements();
  const int64_t rows = x.rows() * heads;
  const int64_t turning =
      scale ? head_dim / 2 : pairs;  // what does not turn is touched only to be scaled
  const bool interleaved = pairing == RotaryPairing::interleaved;
  with_activation(x.dtype(), [&]<class A>(A) {
    const RotaryArguments<A> arguments{rows_of<A>(x),
                                       rows_of<float>(cos),
                                       rows_of<float>(sin),
                                       scale ? scale->data<float>() : nullptr,
                                       head_dim,
                                       pairs,
                                       direction == RotaryDirection::forward ? 1.0F : -1.0F};
    const int pairs_of_vector = interleaved ? kFullWidth<A> / 2 : kFullWidth<A>;
    const bool fits = fits_vectors({operand(x)}, head_dim, kFullWidth<A>) &&
                      turning % pairs_of_vector == 0 && pairs % pairs_of_vector == 0;
    with_width<A>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      constexpr int kPairs = kWidth == 1 ? 1 : kWidth / 2;
      const RowGrid grid = row_grid(rows, turning / (interleaved ? kPairs : kWidth));
      if (interleaved) {
        launch(rotary_interleaved_kernel<kPairs, A>, {blocks_of(grid), threads_of(grid), stream},
               rows, turning, heads, arguments);
      } else {
        launch(rotary_half_split_kernel<kWidth, A>, {blocks_of(grid), threads_of(grid), stream},
               rows, turning, heads, arguments);
      }
    });
  });
}

void swiglu_forward(cudaStream_t stream, ConstView gate_up, View y) {
  if (y.empty()) return;
  const int64_t n = y.row_elements();
  with_activation(y.dtype(), [&]<class A>(A) {
    with_width<A>(fits_vectors({operand(gate_up), operand(y)}, n, kFullWidth<A>), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowGrid grid = row_grid(y.rows(), n / kWidth);
      launch(swiglu_forward_kernel<kWidth, A>, {blocks_of(grid), threads_of(grid), stream},
             y.rows(), n, rows_of<A>(gate_up), rows_of<A>(y));
    });
  });
}

void swiglu_backward(cudaStream_t stream, ConstView dy, View gate_up) {
  if (dy.empty()) return;
  const int64_t n = dy.row_elements();
  with_activation(dy.dtype(), [&]<class A>(A) {
    with_width<A>(fits_vectors({operand(gate_up), operand(dy)}, n, kFullWidth<A>), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowGrid grid = row_grid(dy.rows(), n / kWidth);
      launch(swiglu_backward_kernel<kWidth, A>, {blocks_of(grid), threads_of(grid), stream},
             dy.rows(), n, rows_of<A>(dy), rows_of<A>(gate_up));
    });
  });
}

void adamw(cudaStream_t stream, const AdamWStep& step, ConstView gradient, View master, View m,
           View v, View weight) {
  if (master.empty()) return;
  const double t = static_cast<double>(step.step);
  const auto correction = [&](float beta) {
    return static_cast<float>(1 / (1 - std::pow(static_cast<double>(beta), t)));
  };
  const AdamWArguments arguments{step.learning_rate,
                                 step.beta1,
                                 step.beta2,
                                 step.epsilon,
                                 step.weight_decay,
                                 step.gradient_scale,
                                 correction(step.beta1),
                                 correction(step.beta2)};
  const int64_t n = master.elements();
  with_activation(weight.dtype(), [&]<class A>(A) {
    const bool fits =
        fits_vectors({operand(gradient), operand(master), operand(m), operand(v), operand(weight)},
                     n, kFullWidth<float>);
    with_width<float>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const RowGrid grid = row_grid(1, n / kWidth);
      launch(adamw_kernel<kWidth, A>, {blocks_of(grid), threads_of(grid), stream}, n, arguments,
             gradient.data<float>(), master.data<float>(), m.data<float>(), v.data<float>(),
             weight.data<A>());
    });
  });
}

void begin_attention(cudaStream_t stream, View out, View lse) {
  if (lse.empty()) return;
  RINGBOLT_CUDA(cudaMemset2DAsync(out.bytes(),
                                  static_cast<size_t>(out.row_stride() * size_of(out.dtype())), 0,
                                  static_cast<size_t>(out.row_elements() * size_of(out.dtype())),
                                  static_cast<size_t>(out.rows()), stream));
  const RowGrid grid = row_grid(lse.rows(), lse.row_elements());
  launch(fill_kernel, {blocks_of(grid), threads_of(grid), stream}, lse.rows(), lse.row_elements(),
         rows_of<float>(lse), -std::numeric_limits<float>::infinity());
}

}  // namespace ringbolt::cuda
