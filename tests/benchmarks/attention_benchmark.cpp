// Speed of the CPU attention kernels, as a share of what the machine's arithmetic units reach in
// the same run.
//
//   attention_benchmark --benchmark_filter=Forward/bf16
//
// Causal attention over one sequence, inputs uniform in [-1, 1]. Operations: 4 D a visible pair and
// query head forward, 10 D backward. Before the iterations the peak of the same type is measured on
// the same threads: multiply-adds on registers alone (core/cpu/peak.h). Rates are medians over
// iterations; `best` is the fastest one's. `share` divides the median, `best_share` the best by the
// peak: on a machine that does other work they differ. Thread count: OMP_NUM_THREADS.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/cpu/attention.h"
#include "core/cpu/parallel_for.h"
#include "core/cpu/peak.h"

namespace ringbolt::cpu {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// --- attention
// --------------------------------------------------------------------------------------------------------

template <class T>
std::vector<T> uniform(int64_t n, uint64_t stream) {
  const Philox random(1, stream);
  std::vector<T> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = from_float<T>(static_cast<float>(2 * random.uniform(i) - 1));
  return x;
}

/// One causal sequence: q (T, H, D), k and v (T, K, D).
template <class T>
struct Problem {
  Problem(int64_t t_, int64_t h_, int64_t k_, int64_t d_)
      : t(t_),
        h(h_),
        kv(k_),
        d(d_),
        q(uniform<T>(t * h * d, 1)),
        k(uniform<T>(t * kv * d, 2)),
        v(uniform<T>(t * kv * d, 3)),
        dout(uniform<T>(t * h * d, 4)),
        out(q.size()),
        dq(q.size()),
        dk(k.size()),
        dv(k.size()),
        lse(static_cast<size_t>(t * h)),
        delta(lse.size()),
        slices{{0, t, 0, t, AttentionSlice::Mask::causal, 0}} {}

  void forward(Isa isa) {
    std::fill(lse.begin(), lse.end(), -std::numeric_limits<float>::infinity());
    attention_forward(slices, query(q), key(k), key(v), scale(),
                      View::of<float>(out.data(), {t, h, d}), rows(lse), isa);
  }
  void backward(Isa isa) {
    attention_backward(slices, query(q), key(k), key(v), query(dout), rows(lse), rows(delta),
                       scale(), View::of<float>(dq.data(), {t, h, d}),
                       View::of<float>(dk.data(), {t, kv, d}),
                       View::of<float>(dv.data(), {t, kv, d}), isa);
  }
  double operations(int64_t a_pair) const {
    return static_cast<double>(attention_pairs(slices)) * static_cast<double>(h * d * a_pair);
  }

  float scale() const { return 1 / std::sqrt(static_cast<float>(d)); }
  ConstView query(std::vector<T>& x) const { return View::of<T>(x.data(), {t, h, d}); }
  ConstView key(std::vector<T>& x) const { return View::of<T>(x.data(), {t, kv, d}); }
  View rows(std::vector<float>& x) const { return View::of<float>(x.data(), {t, h}); }

  int64_t t, h, kv, d;
  std::vector<T> q, k, v, dout;
  std::vector<float> out, dq, dk, dv, lse, delta;
  std::vector<AttentionSlice> slices;
};

enum class Direction { forward, backward };

template <class T, Direction kDirection>
void attention(benchmark::State& state) {
  const Isa isa = choose_isa();
  Problem<T> problem(state.range(0), state.range(1), state.range(2), state.range(3));
  problem.forward(isa);  // backward needs lse; warms up
  const double operations = problem.operations(kDirection == Direction::forward ? 4 : 10);
  const PeakRate rates = measure_peak(isa, 0.1);
  const double peak =
      DTypeOf<T>::value == DType::bf16 && rates.bf16_flops > 0 ? rates.bf16_flops : rates.f32_flops;
  std::vector<double> rate;
  for (auto _ : state) {
    const auto begin = Clock::now();
    kDirection == Direction::forward ? problem.forward(isa) : problem.backward(isa);
    const double seconds = seconds_since(begin);
    rate.push_back(operations / seconds);
    state.SetIterationTime(seconds);
  }
  state.SetLabel(name_of(isa) + ", " + std::to_string(max_threads()) + " threads");
  state.counters["GFLOP/s"] = median(rate) * 1e-9;
  state.counters["best"] = *std::max_element(rate.begin(), rate.end()) * 1e-9;
  state.counters["peak"] = peak * 1e-9;
  state.counters["share"] = state.counters["GFLOP/s"] * 1e9 / peak;
  state.counters["best_share"] = state.counters["best"] * 1e9 / peak;
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"T", "H", "K", "D"})->UseManualTime()->Unit(benchmark::kMillisecond)->MinTime(0.7);
  for (const int64_t d : {64, 128}) b->Args({4096, 8, 8, d});
  for (const int64_t d : {64, 128}) b->Args({4096, 8, 2, d});
  for (const int64_t d : {64, 128}) b->Args({16384, 8, 8, d});
  b->Args({512, 8, 8, 64});
}

BENCHMARK(attention<float, Direction::forward>)->Apply(shapes)->Name("Forward/f32");
BENCHMARK(attention<float, Direction::backward>)->Apply(shapes)->Name("Backward/f32");
BENCHMARK(attention<bf16, Direction::forward>)->Apply(shapes)->Name("Forward/bf16");
BENCHMARK(attention<bf16, Direction::backward>)->Apply(shapes)->Name("Backward/bf16");

}  // namespace
}  // namespace ringbolt::cpu

BENCHMARK_MAIN();
