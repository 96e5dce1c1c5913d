#include "parallel/measure_rates.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>
#include <vector>

#include "parallel/ring.h"

namespace ringbolt {
namespace {

template <class Body>
double seconds_of(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Body>
double median_seconds(int repeats, const Body& body) {
  std::vector<double> seconds;
  seconds.reserve(static_cast<size_t>(repeats));
  for (int i = 0; i < repeats; ++i) seconds.push_back(seconds_of(body));
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return seconds[static_cast<size_t>(repeats / 2)];
}

/// What the machine does undisturbed: differences of times that others may lengthen need this.
template <class Body>
double fastest_seconds(int repeats, const Body& body) {
  double fastest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeats; ++i) fastest = std::min(fastest, seconds_of(body));
  return fastest;
}

double mean_over(Communicator& ranks, double value) {
  ranks.all_reduce(std::span(&value, 1));
  return value / ranks.size();
}

/// An exchange with both neighbours.
class Exchange {
 public:
  Exchange(Backend& backend, Communicator& ring, int64_t bytes)
      : backend_(backend),
        ring_(ring),
        sent_(zeros(backend, bytes)),
        received_(zeros(backend, bytes)) {}
  Request post() {
    const int size = ring_.size();
    return ring_.send_receive(bytes_of(std::as_const(sent_).view()), (ring_.rank() + 1) % size,
                              bytes_of(received_.view()), (ring_.rank() + size - 1) % size,
                              Tag::ring_operand);
  }
  /// Until the bytes are there.
  void run() {
    post().wait();
    backend_.synchronize();
  }

 private:
  static Tensor zeros(Backend& backend, int64_t bytes) {
    Tensor x = backend.allocate(DType::f32, {bytes / size_of(DType::f32)});
    backend.fill_zero(x);
    return x;
  }

  Backend& backend_;
  Communicator& ring_;
  Tensor sent_, received_;
};

/// Attention of n tokens over themselves: as much as takes 10 ms.
class AttentionProbe {
 public:
  AttentionProbe(Backend& backend, const AttentionJob& job)
      : backend_(backend), dim_(job.head_dim) {
    kv_heads_ = std::min<int64_t>(job.kv_heads, 8);
    heads_ = kv_heads_ *
             std::max<int64_t>(1, std::min<int64_t>(job.heads / job.kv_heads, 8 / kv_heads_));
    for (int64_t n = 128;; n *= 2) {
      resize(n, job.dtype);
      forward();  // warm
      if (n >= 8192 || seconds_of([&] { forward(); }) > 5e-3) break;
    }
  }

  void start_forward() {
    backend_.begin_attention(out_, lse_);
    backend_.attention_forward(slices_, q_, k_, v_, attention_scale(dim_), out_, lse_);
  }
  void forward() {
    start_forward();
    backend_.synchronize();
  }
  void backward() {
    backend_.attention_backward(slices_, q_, k_, v_, q_, lse_, delta_, attention_scale(dim_), dq_,
                                dk_, dv_);
    backend_.synchronize();
  }
  /// Of D, pairs and heads: 4 of them forward, 10 backward.
  double units() const {
    return static_cast<double>(attention_pairs(slices_)) * static_cast<double>(heads_ * dim_);
  }

 private:
  Tensor zeros(DType dtype, Shape shape) {
    Tensor x = backend_.allocate(dtype, shape);
    backend_.fill_zero(x);
    return x;
  }
  void resize(int64_t n, DType dtype) {
    slices_ = {{0, n, 0, n, AttentionSlice::Mask::causal, 0}};
    q_ = zeros(dtype, {n, heads_, dim_});
    k_ = zeros(dtype, {n, kv_heads_, dim_});
    v_ = zeros(dtype, {n, kv_heads_, dim_});
    out_ = zeros(DType::f32, {n, heads_, dim_});
    lse_ = zeros(DType::f32, {n, heads_});
    delta_ = zeros(DType::f32, {n, heads_});
    dq_ = zeros(DType::f32, {n, heads_, dim_});
    dk_ = zeros(DType::f32, {n, kv_heads_, dim_});
    dv_ = zeros(DType::f32, {n, kv_heads_, dim_});
  }

  Backend& backend_;
  int64_t dim_, kv_heads_, heads_;
  std::vector<AttentionSlice> slices_;
  Tensor q_, k_, v_, out_, lse_, delta_, dq_, dk_, dv_;
};

/// The share of the shorter of exchange and attention that is saved by running both at once.
double measure_overlap(Backend& backend, Communicator& ring, AttentionProbe& attention,
                       const Link& link) {
  constexpr int kRepeats = 7;
  ring.barrier();
  const double compute = fastest_seconds(kRepeats, [&] { attention.forward(); });
  // Half as long as the attention, as a ring's transfer that can be hidden; the same on all ranks.
  const double wanted = 0.5 * mean_over(ring, compute) * link.bytes_per_second;
  Exchange exchange(backend, ring, static_cast<int64_t>(std::clamp(wanted, 65536.0, 67108864.0)));
  ring.barrier();
  const double transfer = fastest_seconds(kRepeats, [&] { exchange.run(); });
  ring.barrier();
  const double both = fastest_seconds(kRepeats, [&] {
    Overlap overlap(backend);
    Request request = exchange.post();
    const Overlap::Scope scope(overlap, request);
    attention.start_forward();
    request.wait();
    backend.synchronize();
  });
  const double saved = (compute + transfer - both) / std::min(compute, transfer);
  return std::clamp(mean_over(ring, saved), 0.0, 1.0);
}

}  // namespace

Link measure_link(Backend& backend, Communicator& ring) {
  if (ring.size() == 1) return {std::numeric_limits<double>::infinity(), 0, 1};
  constexpr int64_t kLarge = int64_t{1} << 20;
  const auto exchange_seconds = [&](int64_t bytes, int repeats) {
    Exchange exchange(backend, ring, bytes);
    exchange.run();
    ring.barrier();
    return mean_over(ring, median_seconds(repeats, [&] { exchange.run(); }));
  };
  const double latency = exchange_seconds(8, 31);
  const double large = exchange_seconds(kLarge, 7);
  return {static_cast<double>(kLarge) / std::max(large - latency, 1e-9), latency, 1};
}

MachineRates measure_rates(Backend& backend, Communicator& ring, const AttentionJob& job) {
  AttentionProbe attention(backend, job);
  ring.barrier();  // ranks that share a processor measure together
  const double forward = median_seconds(5, [&] { attention.forward(); });
  ring.barrier();
  const double backward = median_seconds(5, [&] { attention.backward(); });
  Link link = measure_link(backend, ring);
  if (ring.size() > 1) link.overlap = measure_overlap(backend, ring, attention, link);
  return {.forward_flops = mean_over(ring, 4 * attention.units() / forward),
          .backward_flops = mean_over(ring, 10 * attention.units() / backward),
          .inner = link,
          .outer = link};
}

}  // namespace ringbolt
