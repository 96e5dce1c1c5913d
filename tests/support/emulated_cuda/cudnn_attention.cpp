// Takes the place of core/cuda/cudnn.cpp on the emulated device: attention by plain loops in
// double, rounded where cuDNN rounds: weights and their gradients to the operands' type, results to
// theirs. (In double no sum can hide an error of the caller.)
//
// Its known defects are imitated, so that a caller that runs into them fails: what lies beyond the
// true lengths of padded operands takes part with weight 0 (so NaNs there spread), results beyond
// them are NaNs; backward at one query, and at keys that end within a tile of 128 without true
// lengths, is refused loudly.
#include "core/cuda/cudnn.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/base/bf16.h"
#include "core/base/e4m3.h"
#include "core/base/error.h"
#include "tests/support/emulated_cuda/device.h"

namespace ringbolt::cuda {
namespace {

using emulated_cuda::Device;
using emulated_cuda::fail;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double rounded(double x, DType dtype) {
  const auto f = static_cast<float>(x);
  return static_cast<double>(dtype == DType::e4m3 ? to_float(to_e4m3(f)) : to_float(to_bf16(f)));
}

/// (batch, rows, heads, D) with strided rows.
struct Heads {
  std::byte* data;
  DType dtype;
  RowStrides strides;
  int64_t batch, rows, heads, head_dim;

  size_t place(int64_t b, int64_t row, int64_t h, int64_t i) const {
    return static_cast<size_t>(b * strides.batch + row * strides.row + h * head_dim + i);
  }
  void check(const char* what) const {
    const size_t end = place(batch - 1, rows - 1, heads - 1, head_dim - 1) + 1;
    Device::get().require_device(data, end * static_cast<size_t>(size_of(dtype)), what);
    if (reinterpret_cast<std::uintptr_t>(data) % 16 != 0 || strides.row * size_of(dtype) % 16 != 0)
      fail(std::string(what) + ": cuDNN takes operands aligned to 16 bytes only");
  }
  double get(int64_t b, int64_t row, int64_t h, int64_t i) const {
    const size_t at = place(b, row, h, i);
    if (dtype == DType::e4m3)
      return static_cast<double>(to_float(reinterpret_cast<e4m3*>(data)[at]));
    return static_cast<double>(to_float(reinterpret_cast<bf16*>(data)[at]));
  }
  void set(int64_t b, int64_t row, int64_t h, int64_t i, double x) const {
    const size_t at = place(b, row, h, i);
    if (dtype == DType::e4m3) {
      reinterpret_cast<e4m3*>(data)[at] = to_e4m3(static_cast<float>(x));
    } else {
      reinterpret_cast<bf16*>(data)[at] = to_bf16(static_cast<float>(x));
    }
  }
};

class Problem {
 public:
  Problem(const AttentionGraph& graph, const AttentionMemory& memory) : g(graph), m(memory) {}

  void run() const {
    q().check("q of attention");
    k().check("k of attention");
    v().check("v of attention");
    if (g.direction == Direction::backward) {
      if (g.queries == 1 || (g.keys % 128 != 0 && !g.padded))
        fail("attention backward in a form in which cuDNN is known to give NaNs");
      dout().check("dout of attention");
    }
    out().check("out of attention");
    for (int64_t b = 0; b < g.batch; ++b) {
      for (int64_t h = 0; h < g.heads; ++h) {
        if (g.direction == Direction::forward) {
          for (int64_t row = 0; row < g.queries; ++row) forward(b, h, row);
        }
      }
      if (g.direction == Direction::backward) {
        for (int64_t kv = 0; kv < g.kv_heads; ++kv) backward(b, kv);
      }
    }
  }

 private:
  Heads heads(const void* p, DType dtype, RowStrides strides, int64_t rows, int64_t n) const {
    return {static_cast<std::byte*>(const_cast<void*>(p)),
            dtype,
            strides,
            g.batch,
            rows,
            n,
            g.head_dim};
  }
  RowStrides packed(int64_t rows, int64_t n) const {
    return {n * g.head_dim, rows * n * g.head_dim};
  }
  Heads q() const { return heads(m.q, g.dtype, g.q, g.queries, g.heads); }
  Heads k() const { return heads(m.k, g.dtype, g.k, g.keys, g.kv_heads); }
  Heads v() const { return heads(m.v, g.dtype, g.v, g.keys, g.kv_heads); }
  Heads dout() const { return heads(m.dout, DType::bf16, g.dout, g.queries, g.heads); }
  Heads out() const {
    const bool forward = g.direction == Direction::forward;
    return heads(m.out, forward ? g.out_dtype : DType::bf16,
                 forward ? g.out : packed(g.queries, g.heads), g.queries, g.heads);
  }
  float* stats(int64_t b, int64_t h) const { return m.stats + (b * g.heads + h) * g.queries; }
  int64_t true_queries(int64_t b) const { return g.padded ? m.lengths[b] : g.queries; }
  int64_t true_keys(int64_t b) const { return g.padded ? m.lengths[g.batch + b] : g.keys; }
  double factor(Fp8Scale which) const {
    if (g.dtype != DType::e4m3) return 1;
    return static_cast<double>(m.scales[static_cast<int>(which) * kFp8ScaleStep]);
  }

  /// Scaled logits of a row; those of keys that it does not see are -infinity.
  std::vector<double> logits(int64_t b, int64_t h, int64_t row) const {
    const int64_t kv = h / (g.heads / g.kv_heads);
    const double scale =
        static_cast<double>(g.scale) * factor(Fp8Scale::descale_q) * factor(Fp8Scale::descale_k);
    std::vector<double> out(static_cast<size_t>(g.keys), -std::numeric_limits<double>::infinity());
    const int64_t end = std::min(true_keys(b), g.causal ? row + 1 : g.keys);
    for (int64_t j = 0; j < end; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < g.head_dim; ++i) sum += q().get(b, row, h, i) * k().get(b, j, kv, i);
      out[static_cast<size_t>(j)] = sum * scale;
    }
    return out;
  }

  void forward(int64_t b, int64_t h, int64_t row) const {
    if (row >= true_queries(b)) {
      stats(b, h)[row] = static_cast<float>(kNan);
      for (int64_t i = 0; i < g.head_dim; ++i) out().set(b, row, h, i, kNan);
      return;
    }
    std::vector<double> weights = logits(b, h, row);
    const double most = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& w : weights) {
      w = std::exp(w - most);
      sum += w;
      w = rounded(w * factor(Fp8Scale::scale_weights), g.dtype);
    }
    stats(b, h)[row] = static_cast<float>(most + std::log(sum));
    const double scale = factor(Fp8Scale::descale_weights) * factor(Fp8Scale::descale_v) / sum *
                         (g.out_dtype == DType::e4m3 ? factor(Fp8Scale::scale_out) : 1);
    const int64_t kv = h / (g.heads / g.kv_heads);
    for (int64_t i = 0; i < g.head_dim; ++i) {
      double total = 0;
      for (int64_t j = 0; j < g.keys; ++j)
        total += weights[static_cast<size_t>(j)] * v().get(b, j, kv, i);
      out().set(b, row, h, i, total * scale);
    }
    if (g.dtype == DType::e4m3) m.largest[0] = m.largest[kFp8ScaleStep] = 1;
  }

  /// dq of the query heads that share one key head, and its dk and dv. As cuDNN does, the gradients
  /// of each query head are rounded before the group is added up.
  void backward(int64_t b, int64_t kv) const {
    const Heads dq = heads(m.dq, DType::bf16, packed(g.queries, g.heads), g.queries, g.heads);
    const Heads dk = heads(m.dk, DType::bf16, packed(g.keys, g.kv_heads), g.keys, g.kv_heads);
    const Heads dv = heads(m.dv, DType::bf16, packed(g.keys, g.kv_heads), g.keys, g.kv_heads);
    dq.check("dq of attention");
    dk.check("dk of attention");
    dv.check("dv of attention");
    const auto n = static_cast<size_t>(g.keys * g.head_dim);
    std::vector<double> dk_sum(n), dv_sum(n);
    const int64_t group = g.heads / g.kv_heads;
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      std::vector<double> dk_head(n), dv_head(n);
      for (int64_t row = 0; row < g.queries; ++row) backward_row(b, h, row, dq, dk_head, dv_head);
      for (size_t i = 0; i < n; ++i) {
        dk_sum[i] += group == 1 ? dk_head[i] : rounded(dk_head[i], DType::bf16);
        dv_sum[i] += group == 1 ? dv_head[i] : rounded(dv_head[i], DType::bf16);
      }
    }
    for (int64_t j = 0; j < g.keys; ++j) {
      for (int64_t i = 0; i < g.head_dim; ++i) {
        const auto at = static_cast<size_t>(j * g.head_dim + i);
        dk.set(b, j, kv, i, j < true_keys(b) ? dk_sum[at] : kNan);
        dv.set(b, j, kv, i, j < true_keys(b) ? dv_sum[at] : kNan);
      }
    }
  }

  void backward_row(int64_t b, int64_t h, int64_t row, const Heads& dq, std::vector<double>& dk,
                    std::vector<double>& dv) const {
    const int64_t kv = h / (g.heads / g.kv_heads);
    const bool real = row < true_queries(b);
    const std::vector<double> s = logits(b, h, row);
    const auto lse = static_cast<double>(stats(b, h)[row]);
    double delta = 0;
    for (int64_t i = 0; i < g.head_dim; ++i)
      delta += dout().get(b, row, h, i) * out().get(b, row, h, i);
    std::vector<double> dq_row(static_cast<size_t>(g.head_dim));
    for (int64_t j = 0; j < g.keys; ++j) {
      const double weight = real ? std::exp(s[static_cast<size_t>(j)] - lse) : 0;
      double dp = 0;
      for (int64_t i = 0; i < g.head_dim; ++i)
        dp += dout().get(b, row, h, i) * v().get(b, j, kv, i);
      const double ds = rounded(weight * (dp - delta), DType::bf16) * static_cast<double>(g.scale);
      const double p = rounded(weight, DType::bf16);
      for (int64_t i = 0; i < g.head_dim; ++i) {
        const auto at = static_cast<size_t>(j * g.head_dim + i);
        dq_row[static_cast<size_t>(i)] += ds * k().get(b, j, kv, i);
        dk[at] += ds * q().get(b, row, h, i);
        dv[at] += p * dout().get(b, row, h, i);
      }
    }
    for (int64_t i = 0; i < g.head_dim; ++i)
      dq.set(b, row, h, i, real ? dq_row[static_cast<size_t>(i)] : kNan);
  }

  AttentionGraph g;
  AttentionMemory m;
};

void require_supported(const AttentionGraph& g, int arch) {
  const bool writes = g.dtype != DType::e4m3 || g.out_dtype == DType::e4m3 || arch / 10 > 9;
  if (writes && g.head_dim % 8 == 0 && g.head_dim <= 256 && g.heads % g.kv_heads == 0 &&
      (!g.causal || g.queries == g.keys) && g.queries > 0 && g.keys > 0 && g.batch > 0)
    return;
  throw DeviceError(message("the emulated cuDNN has no plan for attention", "of this shape",
                            "cuDNN would refuse it, too."));
}

}  // namespace

struct CudnnAttention::State {
  cudaStream_t stream;
  int arch;
};

CudnnAttention::CudnnAttention(cudaStream_t stream, Memory&, int arch)
    : state_(std::make_unique<State>(State{stream, arch})) {}
CudnnAttention::~CudnnAttention() = default;

void CudnnAttention::run(const AttentionGraph& graph, const AttentionMemory& memory) {
  require_supported(graph, state_->arch);
  RINGBOLT_CUDA(Device::get().enqueue(state_->stream, "cuDNN attention",
                                      [problem = Problem(graph, memory)] { problem.run(); }));
}

std::string CudnnAttention::library() { return "emulated cuDNN"; }

}  // namespace ringbolt::cuda
