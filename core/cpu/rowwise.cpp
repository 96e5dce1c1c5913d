#include "core/cpu/rowwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/base/error.h"
#include "core/cpu/parallel_for.h"

namespace ringbolt::cpu {
namespace {

/// Rows a task: enough work to be worth a hand-over, cut by the work alone.
int64_t row_grain(int64_t row_elements) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, row_elements));
}

/// body(row) for all rows, over the threads.
template <class Body>
void for_rows(int64_t rows, int64_t row_elements, const Body& body) {
  parallel_pieces(rows, row_grain(row_elements), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

constexpr int64_t kRunGrain = 1 << 16;  ///< elements a task of flat operations

/// Calls body(kernels of A, A{}) for the dtype's A.
template <class Body>
void with_type(const RowwiseKernels& kernels, DType dtype, const Body& body) {
  if (dtype == DType::bf16) {
    body(kernels.b16, bf16{});
  } else {
    RINGBOLT_CHECK(dtype == DType::f32);
    body(kernels.f32, float{});
  }
}

constexpr int64_t kReductionPieces = 64;

/// total (n) f32 += the column sums that body(row, partial) adds up, in pieces cut by the rows
/// alone and added in order.
template <class Body>
void reduce_columns(int64_t rows, int64_t n, float* total, const Body& body) {
  const int64_t grain = (rows + kReductionPieces - 1) / kReductionPieces;
  const int64_t pieces = grain == 0 ? 0 : (rows + grain - 1) / grain;
  std::vector<float> partial(static_cast<size_t>(pieces * n), 0.0F);
  parallel_for(pieces, [&](int64_t p) {
    for (int64_t row = p * grain; row < std::min(rows, (p + 1) * grain); ++row)
      body(row, partial.data() + p * n);
  });
  for (int64_t p = 0; p < pieces; ++p) {
    for (int64_t i = 0; i < n; ++i) total[i] += partial[static_cast<size_t>(p * n + i)];
  }
}

}  // namespace

void fill_zero(View x) {
  const int64_t row_bytes = x.row_elements() * size_of(x.dtype());
  if (x.is_contiguous()) {
    const int64_t bytes = x.bytes_needed();
    parallel_pieces(bytes, kRunGrain * 4, [&](int64_t begin, int64_t end) {
      std::memset(x.bytes() + begin, 0, static_cast<size_t>(end - begin));
    });
    return;
  }
  for_rows(x.rows(), x.row_elements(), [&](int64_t row) {
    std::memset(x.bytes() + row * x.row_stride() * size_of(x.dtype()), 0,
                static_cast<size_t>(row_bytes));
  });
}

void convert(const RowwiseKernels& kernels, ConstView x, View y) {
  RINGBOLT_CHECK(x.shape() == y.shape());
  const bool flat = x.is_contiguous() && y.is_contiguous();
  const auto run = [&](const std::byte* from, int64_t n, std::byte* to) {
    if (x.dtype() == y.dtype()) {
      std::memcpy(to, from, static_cast<size_t>(n * size_of(x.dtype())));
    } else if (y.dtype() == DType::bf16) {
      kernels.b16.narrow(reinterpret_cast<const float*>(from), n, reinterpret_cast<bf16*>(to));
    } else {
      kernels.b16.widen(reinterpret_cast<const bf16*>(from), n, reinterpret_cast<float*>(to));
    }
  };
  const int64_t in = size_of(x.dtype());
  const int64_t out = size_of(y.dtype());
  if (flat) {
    parallel_pieces(x.elements(), kRunGrain, [&](int64_t b, int64_t e) {
      run(x.bytes() + b * in, e - b, y.bytes() + b * out);
    });
  } else {
    for_rows(x.rows(), x.row_elements(), [&](int64_t r) {
      run(x.bytes() + r * x.row_stride() * in, x.row_elements(),
          y.bytes() + r * y.row_stride() * out);
    });
  }
}

void add(const RowwiseKernels& kernels, ConstView x, View y) {
  RINGBOLT_CHECK(x.shape() == y.shape());
  if (x.is_contiguous() && y.is_contiguous()) {
    parallel_pieces(x.elements(), kRunGrain, [&](int64_t begin, int64_t end) {
      kernels.f32.add_to(x.data<float>() + begin, end - begin, y.data<float>() + begin);
    });
  } else {
    for_rows(x.rows(), x.row_elements(), [&](int64_t r) {
      kernels.f32.add_to(x.row<float>(r), x.row_elements(), y.row<float>(r));
    });
  }
}

void bias_backward(const RowwiseKernels& kernels, ConstView dy, View dbias) {
  with_type(kernels, dy.dtype(), [&]<class A>(const ActivationKernels<A>& k, A) {
    const int64_t n = dy.row_elements();
    reduce_columns(dy.rows(), n, dbias.data<float>(),
                   [&](int64_t t, float* sum) { k.add_to(dy.row<A>(t), n, sum); });
  });
}

void embedding_forward(ConstView table, ConstView ids, View y) {
  const int64_t width = table.row_elements();
  const int32_t* id = ids.data<int32_t>();
  const int64_t size = size_of(table.dtype());
  for_rows(y.rows(), width, [&](int64_t t) {
    RINGBOLT_CHECK(id[t] >= 0 && id[t] < table.rows());
    std::memcpy(y.bytes() + t * y.row_stride() * size, table.bytes() + id[t] * width * size,
                static_cast<size_t>(width * size));
  });
}

void embedding_backward(const RowwiseKernels& kernels, ConstView dy, ConstView ids, View dtable) {
  constexpr int64_t kColumns =
      64;  // a task owns these columns of every row, so no two add to one place
  const int64_t width = dtable.row_elements();
  const int32_t* id = ids.data<int32_t>();
  with_type(kernels, dy.dtype(), [&]<class A>(const ActivationKernels<A>& k, A) {
    parallel_pieces(width, kColumns, [&](int64_t begin, int64_t end) {
      for (int64_t t = 0; t < dy.rows(); ++t) {
        k.add_to(dy.row<A>(t) + begin, end - begin, dtable.row<float>(id[t]) + begin);
      }
    });
  });
}

void rms_norm_forward(const RowwiseKernels& kernels, ConstView x, ConstView weight, float epsilon,
                      View y, View rstd) {
  with_type(kernels, x.dtype(), [&]<class A>(const ActivationKernels<A>& k, A) {
    const int64_t n = x.row_elements();
    float* r = rstd.data<float>();
    for_rows(x.rows(), n, [&](int64_t t) {
      r[t] = k.rms_norm_forward(x.row<A>(t), weight.data<A>(), epsilon, n, y.row<A>(t));
    });
  });
}

void rms_norm_backward(const RowwiseKernels& kernels, ConstView dy, ConstView x, ConstView weight,
                       ConstView rstd, View dx, View dweight) {
  with_type(kernels, x.dtype(), [&]<class A>(const ActivationKernels<A>& k, A) {
    const int64_t n = x.row_elements();
    const float* r = rstd.data<float>();
    reduce_columns(x.rows(), n, dweight.data<float>(), [&](int64_t t, float* partial) {
      k.rms_norm_backward(dy.row<A>(t), x.row<A>(t), weight.data<A>(), r[t], n, dx.row<A>(t),
                          partial);
    });
  });
}

void rotary(const RowwiseKernels& kernels, View x, ConstView cos, ConstView sin,
            RotaryPairing pairing, RotaryDirection direction, std::optional<ConstView> scale) {
  const int64_t heads = x.dim(1);
  const int64_t head_dim = x.dim(2);
  const int64_t pairs = cos.row_elements();
  const float sign = direction == RotaryDirection::forward ? 1.0F : -1.0F;
  with_type(kernels, x.dtype(), [&]<class A>(const ActivationKernels<A>& k, A) {
    const auto rotate =
        pairing == RotaryPairing::interleaved ? k.rotate_interleaved : k.rotate_half_split;
    for_rows(x.rows(), heads * head_dim, [&](int64_t t) {
      const float factor = scale ? scale->data<float>()[t] : 1.0F;
      for (int64_t h = 0; h < heads; ++h) {
        A* head = x.row<A>(t) + h * head_dim;
        rotate(head, cos.row<float>(t), sin.row<float>(t), pairs, sign, factor);
        if (scale) k.scale(head + 2 * pairs, factor, head_dim - 2 * pairs);  // what does not rotate
      }
    });
  });
}

void rotary_angle_backward(const RowwiseKernels& kernels, ConstView x, ConstView dx,
                           RotaryPairing pairing, View dangles) {
  const int64_t heads = x.dim(1);
  const int64_t head_dim = x.dim(2);
  with_type(kernels, x.dtype(), [&]<class A>(const ActivationKernels<A>& k, A) {
    const auto add =
        pairing == RotaryPairing::interleaved ? k.angles_interleaved : k.angles_half_split;
    for_rows(x.rows(), heads * head_dim, [&](int64_t t) {
      for (int64_t h = 0; h < heads; ++h) {
        add(x.row<A>(t) + h * head_dim, dx.row<A>(t) + h * head_dim, dangles.row_elements(),
            dangles.row<float>(t));
      }
    });
  });
}

void swiglu_forward(const RowwiseKernels& kernels, ConstView gate_up, View y) {
  with_type(kernels, y.dtype(), [&]<class A>(const ActivationKernels<A>& k, A) {
    const int64_t n = y.row_elements();
    for_rows(y.rows(), n, [&](int64_t t) {
      k.swiglu_forward(gate_up.row<A>(t), gate_up.row<A>(t) + n, n, y.row<A>(t));
    });
  });
}

void swiglu_backward(const RowwiseKernels& kernels, ConstView dy, View gate_up) {
  with_type(kernels, dy.dtype(), [&]<class A>(const ActivationKernels<A>& k, A) {
    const int64_t n = dy.row_elements();
    for_rows(dy.rows(), n, [&](int64_t t) {
      k.swiglu_backward(dy.row<A>(t), gate_up.row<A>(t), gate_up.row<A>(t) + n, n);
    });
  });
}

void cross_entropy(const RowwiseKernels& kernels, const CrossEntropyViews& views,
                   float gradient_scale) {
  const int64_t n = views.logits.row_elements();
  const int32_t* target = views.targets.data<int32_t>();
  float* loss = views.losses.data<float>();
  int32_t* hit = views.hits.data<int32_t>();
  const bool with_gradient = !views.gradient.empty();
  with_type(kernels, with_gradient ? views.gradient.dtype() : DType::f32,
            [&]<class A>(const ActivationKernels<A>& k, A) {
              for_rows(views.logits.rows(), n, [&](int64_t t) {
                const float* logits = views.logits.row<float>(t);
                if (target[t] < 0) {
                  loss[t] = 0;
                  hit[t] = 0;
                  if (with_gradient) std::fill_n(views.gradient.row<A>(t), n, A{});
                  return;
                }
                const RowMaximum maximum = kernels.maximum(logits, n);
                const float sum = kernels.exp_sum(logits, maximum.value, n);
                loss[t] = maximum.value + std::log(sum) - logits[target[t]];
                hit[t] = maximum.first_index == target[t] ? 1 : 0;
                if (!with_gradient) return;
                A* gradient = views.gradient.row<A>(t);
                const float probability = std::exp(-loss[t]);
                k.softmax_gradient(logits, maximum.value, 1.0F / sum, gradient_scale, n, gradient);
                gradient[target[t]] = from_float<A>((probability - 1.0F) * gradient_scale);
              });
            });
}

void begin_attention(View out, View lse) {
  fill_zero(out);
  float* values = lse.data<float>();
  std::fill_n(values, lse.elements(), -std::numeric_limits<float>::infinity());
}

void merge_attention(const RowwiseKernels& kernels, ConstView other_out, ConstView other_lse,
                     View out, View lse) {
  const int64_t heads = out.dim(1);
  const int64_t head_dim = out.dim(2);
  for_rows(out.rows(), heads * head_dim, [&](int64_t t) {
    for (int64_t h = 0; h < heads; ++h) {
      float& mine = lse.row<float>(t)[h];
      const float other = other_lse.row<float>(t)[h];
      if (std::isinf(other) && other < 0) continue;  // no key there
      const float* from = other_out.row<float>(t) + h * head_dim;
      float* to = out.row<float>(t) + h * head_dim;
      if (std::isinf(mine) && mine < 0) {  // none here
        std::copy_n(from, head_dim, to);
        mine = other;
        continue;
      }
      const float most = std::max(mine, other);
      const float of_mine = std::exp(mine - most);
      const float of_other = std::exp(other - most);
      const float total = of_mine + of_other;
      kernels.blend(from, of_other / total, of_mine / total, head_dim, to);
      mine = most + std::log(total);
    }
  });
}

void attention_delta(const RowwiseKernels& kernels, ConstView dout, ConstView out, View delta) {
  const int64_t heads = dout.dim(1);
  const int64_t head_dim = dout.dim(2);
  with_type(kernels, dout.dtype(), [&]<class A>(const ActivationKernels<A>& k, A) {
    for_rows(dout.rows(), heads * head_dim, [&](int64_t t) {
      for (int64_t h = 0; h < heads; ++h) {
        delta.row<float>(t)[h] = static_cast<float>(
            k.dot(dout.row<A>(t) + h * head_dim, out.row<A>(t) + h * head_dim, head_dim));
      }
    });
  });
}

double sum_of_squares(const RowwiseKernels& kernels, ConstView x) {
  RINGBOLT_CHECK(x.is_contiguous());
  const int64_t pieces = (x.elements() + kRunGrain - 1) / kRunGrain;
  std::vector<double> partial(static_cast<size_t>(pieces));
  parallel_for(pieces, [&](int64_t p) {
    const int64_t n = std::min(kRunGrain, x.elements() - p * kRunGrain);
    partial[static_cast<size_t>(p)] = kernels.sum_of_squares(x.data<float>() + p * kRunGrain, n);
  });
  double sum = 0;
  for (double value : partial) sum += value;
  return sum;
}

void adamw(const RowwiseKernels& kernels, const AdamWStep& step, ConstView gradient, View master,
           View m, View v, View weight) {
  const double t = static_cast<double>(step.step);
  const AdamWFactors factors{
      step.learning_rate,
      step.beta1,
      step.beta2,
      step.epsilon,
      step.weight_decay,
      step.gradient_scale,
      static_cast<float>(1 / (1 - std::pow(static_cast<double>(step.beta1), t))),
      static_cast<float>(1 / (1 - std::pow(static_cast<double>(step.beta2), t)))};
  float* masters = master.data<float>();
  parallel_pieces(master.elements(), kRunGrain, [&](int64_t begin, int64_t end) {
    kernels.adamw(factors, gradient.data<float>() + begin, end - begin, masters + begin,
                  m.data<float>() + begin, v.data<float>() + begin);
    if (weight.bytes() == master.bytes()) return;
    if (weight.dtype() == DType::bf16) {
      kernels.b16.narrow(masters + begin, end - begin, weight.data<bf16>() + begin);
    } else {
      std::memcpy(weight.data<float>() + begin, masters + begin,
                  static_cast<size_t>(end - begin) * sizeof(float));
    }
  });
}

}  // namespace ringbolt::cpu
