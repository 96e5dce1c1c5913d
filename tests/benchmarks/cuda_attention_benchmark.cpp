// Attention of the CUDA backend beside cuDNN alone, on the same operands in the same run: what
// slices, merging and sums in f32 cost; forward in fp8 beside bf16; and one query over a cache of
// as many keys, by the backend and by our own kernel. One JSON object a line on standard output;
// without a GPU one line says so, and the exit status is 77.
//
//   cuda_attention_benchmark [seconds a figure] [heads kv_heads head_dim] [tokens…]    (1 64 8 128
//   2048 8192 16384 32768)
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/bench/workloads.h"
#include "core/cuda/attention_kernels.h"
#include "core/cuda/cuda_backend.h"
#include "core/cuda/cudnn.h"
#include "core/model/attention.h"

namespace ringbolt {
namespace {

constexpr int kCalls = 10;  ///< between two waits

struct Shapes {
  int64_t tokens, heads, kv_heads, head_dim;
};

/// bf16 operands of a causal square, through the backend; cuDNN reads the same memory.
class Operands {
 public:
  Operands(Backend& backend, const Shapes& s)
      : q(random(backend, {s.tokens, s.heads, s.head_dim}, 1)),
        kv(random(backend, {s.tokens, 2 * s.kv_heads, s.head_dim}, 2)),
        dout(random(backend, q.shape(), 3)),
        out(backend.allocate(DType::bf16, q.shape())),
        lse(backend.allocate(DType::f32, {s.tokens, s.heads})),
        delta(backend.allocate(DType::f32, lse.shape())),
        dq(backend.allocate(DType::f32, q.shape())),
        dkv(backend.allocate(DType::f32, kv.shape())),
        kv_heads(s.kv_heads) {}

  ConstView keys() const { return kv.view().slice_columns(0, kv_heads); }
  ConstView values() const { return kv.view().slice_columns(kv_heads, 2 * kv_heads); }

  Tensor q, kv, dout, out, lse, delta, dq, dkv;
  int64_t kv_heads;

 private:
  static Tensor random(Backend& backend, Shape shape, uint64_t seed) {
    const Philox philox(seed);
    std::vector<float> host(static_cast<size_t>(shape.elements()));
    for (size_t i = 0; i < host.size(); ++i)
      host[i] = static_cast<float>(2 * philox.uniform(i) - 1);
    const Tensor wide = upload_new(backend, DType::f32, shape, host.data());
    Tensor narrow = backend.allocate(DType::bf16, shape);
    backend.convert(wide, narrow);
    return narrow;
  }
};

/// cuDNN without anything around it, on a stream of its own.
class Alone {
 public:
  Alone(const Operands& o, const Shapes& s, int arch)
      : stream_(cuda::make_stream()),
        memory_(0, stream_.get()),
        cudnn_(stream_.get(), memory_, arch),
        out_(memory_, o.q.shape().elements() * 2),
        stats_(memory_, s.tokens * s.heads * 4),
        dq_(memory_, o.q.shape().elements() * 2),
        dkv_(memory_, o.kv.shape().elements() * 2) {
    graph_.queries = graph_.keys = s.tokens;
    graph_.heads = s.heads;
    graph_.kv_heads = s.kv_heads;
    graph_.head_dim = s.head_dim;
    graph_.causal = true;
    graph_.scale = attention_scale(s.head_dim);
    const int64_t q_row = s.heads * s.head_dim;
    const int64_t kv_row = 2 * s.kv_heads * s.head_dim;
    graph_.q = graph_.out = {q_row, s.tokens * q_row};
    graph_.k = graph_.v = {kv_row, s.tokens * kv_row};
    pointers_.q = o.q.view().bytes();
    pointers_.k = o.keys().bytes();
    pointers_.v = o.values().bytes();
    pointers_.out = out_.as<void>();
    pointers_.stats = stats_.as<float>();
    pointers_.dout = o.dout.view().bytes();
    pointers_.dq = dq_.as<void>();
    pointers_.dk = dkv_.as<void>();
    pointers_.dv = dkv_.as<std::byte>() + o.kv.shape().elements();
  }

  void forward() {
    cuda::AttentionMemory p = pointers_;
    p.dout = p.dq = p.dk = p.dv = nullptr;
    cudnn_.run(graph_, p);
  }
  void backward() {
    cuda::AttentionGraph graph = graph_;
    graph.direction = cuda::Direction::backward;
    graph.dout = graph.out;
    graph.out = {};
    cudnn_.run(graph, pointers_);
  }
  void wait() { RINGBOLT_CUDA(cudaStreamSynchronize(stream_.get())); }

 private:
  cuda::Stream stream_;
  cuda::Memory memory_;
  cuda::CudnnAttention cudnn_;
  cuda::Scratch out_, stats_, dq_, dkv_;
  cuda::AttentionGraph graph_;
  cuda::AttentionMemory pointers_;
};

template <class Run, class Wait>
double seconds_of(double seconds, const Run& run, const Wait& wait) {
  const Timing t = time_repeatedly(
      [&] {
        for (int i = 0; i < kCalls; ++i) run();
        wait();
      },
      seconds);
  return t.median_seconds / kCalls;
}

/// Forward in fp8, codes and scales of bf16 operands included, in the form that the device has.
struct Fp8Time {
  AttentionDType dtype;
  double seconds;
};
std::optional<Fp8Time> fp8_forward(Backend& backend, Operands& o, SliceList slices, float scale,
                                   int arch, double seconds) {
  const bool wide = cuda::why_no_e4m3_attention(arch, E4m3Output::wide).empty();
  if (!wide && !cuda::why_no_e4m3_attention(arch, E4m3Output::rounded).empty()) return {};
  const AttentionDType dtype = wide ? AttentionDType::fp8 : AttentionDType::fp8_output;
  const auto attend = [&] {
    AttentionOperands operands(backend, dtype, o.kv);
    const AttentionOperands::Queries queries = operands.queries(o.q);
    Tensor storage;
    const ConstView block = operands.block(o.kv, storage);
    backend.begin_attention(o.out, o.lse);
    operands.attend(slices, queries, block, scale, o.out, o.lse);
  };
  return Fp8Time{dtype, seconds_of(seconds, attend, [&] { backend.synchronize(); })};
}

/// One query over all keys, as it is and by our own kernel alone, which takes what is not aligned.
/// Rates are those of keys and values, each read once.
void bench_decoding(Backend& backend, Operands& o, const Shapes& s, double seconds) {
  const std::vector<AttentionSlice> slices{{0, 1, 0, s.tokens, AttentionSlice::Mask::full, 0}};
  const View out = o.out.view().slice_rows(0, 1);
  const View lse = o.lse.view().slice_rows(0, 1);
  const auto time_query_at = [&](int64_t byte) {
    const ConstView q(o.q.view().bytes() + byte, DType::bf16, {1, s.heads, s.head_dim});
    return seconds_of(
        seconds,
        [&] {
          backend.begin_attention(out, lse);
          backend.attention_forward(slices, q, o.keys(), o.values(), attention_scale(s.head_dim),
                                    out, lse);
        },
        [&] { backend.synchronize(); });
  };
  const double ours = time_query_at(0);
  const double own_kernel = time_query_at(size_of(DType::bf16));
  const auto bytes = static_cast<double>(o.kv.shape().elements() * size_of(DType::bf16));
  std::printf(
      "{\"direction\":\"decode\",\"tokens\":%lld,\"seconds\":%.6e,\"gb_per_second\":%.1f,"
      "\"own_kernel_seconds\":%.6e,\"own_kernel_gb_per_second\":%.1f}\n",
      static_cast<long long>(s.tokens), ours, bytes / ours * 1e-9, own_kernel,
      bytes / own_kernel * 1e-9);
  std::fflush(stdout);
}

void bench(Backend& backend, const Shapes& s, int arch, double seconds) {
  Operands o(backend, s);
  Alone alone(o, s, arch);
  const std::vector<int64_t> offsets{0, s.tokens};
  const auto slices = causal_slices(offsets);
  const float scale = attention_scale(s.head_dim);
  const auto wait = [&] { backend.synchronize(); };
  backend.synchronize();
  const double forward = seconds_of(
      seconds,
      [&] {
        backend.begin_attention(o.out, o.lse);
        backend.attention_forward(slices, o.q, o.keys(), o.values(), scale, o.out, o.lse);
      },
      wait);
  const double cudnn_forward = seconds_of(
      seconds, [&] { alone.forward(); }, [&] { alone.wait(); });
  const double backward = seconds_of(
      seconds,
      [&] {
        backend.attention_delta(o.dout, o.out, o.delta);
        const View dk = o.dkv.view().slice_columns(0, s.kv_heads);
        const View dv = o.dkv.view().slice_columns(s.kv_heads, 2 * s.kv_heads);
        backend.attention_backward(slices, o.q, o.keys(), o.values(), o.dout, o.lse, o.delta, scale,
                                   o.dq, dk, dv);
      },
      wait);
  const double cudnn_backward = seconds_of(
      seconds, [&] { alone.backward(); }, [&] { alone.wait(); });
  const double pairs =
      static_cast<double>(attention_pairs(slices)) * static_cast<double>(s.heads * s.head_dim);
  const auto line = [&](const char* direction, double flops, double ours, double theirs) {
    std::printf(
        "{\"direction\":\"%s\",\"tokens\":%lld,\"heads\":%lld,\"kv_heads\":%lld,\"head_dim\":%lld,"
        "\"seconds\":%.6e,\"cudnn_seconds\":%.6e,\"tflops\":%.1f,\"cudnn_tflops\":%.1f,\"of_"
        "cudnn\":%.4f}\n",
        direction, static_cast<long long>(s.tokens), static_cast<long long>(s.heads),
        static_cast<long long>(s.kv_heads), static_cast<long long>(s.head_dim), ours, theirs,
        flops / ours * 1e-12, flops / theirs * 1e-12, theirs / ours);
    std::fflush(stdout);
  };
  line("forward", 4 * pairs, forward, cudnn_forward);
  line("backward", 10 * pairs, backward, cudnn_backward);
  bench_decoding(backend, o, s, seconds);
  const auto fp8 = fp8_forward(backend, o, slices, scale, arch, seconds);
  if (!fp8) return;
  std::printf(
      "{\"direction\":\"forward\",\"attention_dtype\":\"%s\",\"tokens\":%lld,\"seconds\":%.6e,"
      "\"tflops\":%.1f,\"of_bf16\":%.4f}\n",
      name_of(fp8->dtype).c_str(), static_cast<long long>(s.tokens), fp8->seconds,
      4 * pairs / fp8->seconds * 1e-12, forward / fp8->seconds);
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  if (const std::string why = why_no_cuda(); !why.empty()) {
    std::cerr << why << '\n';
    return 77;
  }
  const double seconds = argc > 1 ? std::atof(argv[1]) : 1.0;
  const auto number = [&](int i, int64_t otherwise) {
    return argc > i ? std::atoll(argv[i]) : otherwise;
  };
  const auto backend = make_cuda_backend();
  const int arch = cuda::open_device(0).arch;
  std::printf("{\"device\":\"%s\"}\n", backend->description().c_str());
  std::vector<int64_t> lengths{2048, 8192, 16384, 32768};
  if (argc > 5) lengths.clear();
  for (int i = 5; i < argc; ++i) lengths.push_back(number(i, 0));
  for (const int64_t tokens : lengths) {
    bench(*backend, {tokens, number(2, 64), number(3, 8), number(4, 128)}, arch, seconds);
  }
  return 0;
}

}  // namespace
}  // namespace ringbolt

int main(int argc, char** argv) {
  try {
    return ringbolt::run(argc, argv);
  } catch (const ringbolt::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
