// Speed of the CPU's attention, as a share of what the machine's arithmetic units reach.
//
//   OMP_NUM_THREADS=2 attention_benchmark --benchmark_filter=forward_bf16
//
// Causal attention over one sequence, inputs uniform in [-1, 1]. Operations: 4 D a visible pair and
// query head forward, 10 D backward. The peak is that of multiply-adds on registers alone, of the
// same type and on the same threads, measured just before (core/cpu/peak.h).
//
// GFLOP/s is the median over iterations by the wall clock, `share` its share of the peak.
// `cpu_share` is the same by processor time, for both: it holds on a machine that does other work,
// too, and counts the time in which a thread waits actively for the others.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "core/backend/backend.h"
#include "core/base/random.h"
#include "core/cpu/isa.h"
#include "core/cpu/peak.h"

namespace ringbolt {
namespace {

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }
double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Operations a second of processor time on one thread, the best of a few runs.
double peak_by_cpu_time(DType dtype, cpu::Isa isa) {
  cpu::PeakLoops loops = cpu::peak_loops_generic();
#if defined(__x86_64__)
  if (isa == cpu::Isa::avx2) loops = cpu::peak_loops_avx2();
  if (isa == cpu::Isa::avx512) loops = cpu::peak_loops_avx512();
  if (isa == cpu::Isa::avx512_bf16) loops = cpu::peak_loops_avx512_bf16();
#endif
  const bool narrow = dtype == DType::bf16 && loops.bf16 != nullptr;
  constexpr int64_t kIterations = 1 << 21;
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const double begin = cpu_seconds();
    benchmark::DoNotOptimize((narrow ? loops.bf16 : loops.f32)(kIterations));
    const auto operations =
        static_cast<double>(kIterations * (narrow ? loops.bf16_flops : loops.f32_flops));
    best = std::max(best, operations / (cpu_seconds() - begin));
  }
  return best;
}

/// One causal sequence: q (T, H, D), k and v (T, K, D).
struct Problem {
  Problem(Backend& on, DType dtype, int64_t t, int64_t h, int64_t k_heads, int64_t d)
      : backend(on),
        slices{{0, t, 0, t, AttentionSlice::Mask::causal, 0}},
        scale(1 / std::sqrt(static_cast<float>(d))),
        pairs(static_cast<double>(attention_pairs(slices)) * static_cast<double>(h * d)),
        q(uniform(dtype, {t, h, d}, 1)),
        k(uniform(dtype, {t, k_heads, d}, 2)),
        v(uniform(dtype, {t, k_heads, d}, 3)),
        dout(uniform(dtype, {t, h, d}, 4)),
        out(on.allocate(DType::f32, {t, h, d})),
        lse(on.allocate(DType::f32, {t, h})),
        delta(on.allocate(DType::f32, {t, h})),
        dq(on.allocate(DType::f32, {t, h, d})),
        dk(on.allocate(DType::f32, {t, k_heads, d})),
        dv(on.allocate(DType::f32, {t, k_heads, d})) {
    for (Tensor* x : {&delta, &dq, &dk, &dv}) backend.fill_zero(*x);
  }

  void forward() {
    backend.begin_attention(out, lse);
    backend.attention_forward(slices, q, k, v, scale, out, lse);
  }
  void backward() {
    backend.attention_backward(slices, q, k, v, dout, lse, delta, scale, dq, dk, dv);
  }

  Tensor uniform(DType dtype, Shape shape, uint64_t stream) {
    const Philox random(1, stream);
    std::vector<float> host(static_cast<size_t>(shape.elements()));
    for (size_t i = 0; i < host.size(); ++i)
      host[i] = static_cast<float>(2 * random.uniform(i) - 1);
    Tensor wide = upload_new(backend, DType::f32, shape, host.data());
    if (dtype == DType::f32) return wide;
    Tensor narrow = backend.allocate(dtype, shape);
    backend.convert(wide, narrow);
    return narrow;
  }

  Backend& backend;
  std::vector<AttentionSlice> slices;
  float scale;
  double pairs;  ///< times query heads, times D
  Tensor q, k, v, dout, out, lse, delta, dq, dk, dv;
};

enum class Direction { forward, backward };

void attention(benchmark::State& state, DType dtype, Direction direction) {
  const auto backend = make_cpu_backend();
  const cpu::Isa isa = cpu::choose_isa();
  Problem problem(*backend, dtype, state.range(0), state.range(1), state.range(2), state.range(3));
  problem.forward();  // backward needs lse; warms up
  const double operations = problem.pairs * (direction == Direction::forward ? 4 : 10);
  const double cpu_peak = peak_by_cpu_time(dtype, isa);
  const double narrow = dtype == DType::bf16 ? cpu::measure_peak(isa, dtype, 0.1) : 0;
  const double peak = narrow > 0 ? narrow : cpu::measure_peak(isa, DType::f32, 0.1);
  std::vector<double> rate;
  std::vector<double> cpu_rate;
  for (auto _ : state) {
    const double cpu_begin = cpu_seconds();
    const double begin = wall_seconds();
    direction == Direction::forward ? problem.forward() : problem.backward();
    const double seconds = wall_seconds() - begin;
    cpu_rate.push_back(operations / (cpu_seconds() - cpu_begin));
    rate.push_back(operations / seconds);
    state.SetIterationTime(seconds);
  }
  state.SetLabel(backend->description());
  state.counters["GFLOP/s"] = median(rate) * 1e-9;
  state.counters["peak"] = peak * 1e-9;
  state.counters["share"] = median(rate) / peak;
  state.counters["cpu_share"] = median(cpu_rate) / cpu_peak;
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"T", "H", "K", "D"})->UseManualTime()->Unit(benchmark::kMillisecond)->MinTime(0.7);
  for (const int64_t t : {4096, 16384}) {
    for (const int64_t d : {64, 128}) {
      b->Args({t, 8, 8, d});
      b->Args({t, 8, 2, d});
    }
  }
  b->Args({512, 8, 8, 64});
}

BENCHMARK_CAPTURE(attention, forward_f32, DType::f32, Direction::forward)->Apply(shapes);
BENCHMARK_CAPTURE(attention, backward_f32, DType::f32, Direction::backward)->Apply(shapes);
BENCHMARK_CAPTURE(attention, forward_bf16, DType::bf16, Direction::forward)->Apply(shapes);
BENCHMARK_CAPTURE(attention, backward_bf16, DType::bf16, Direction::backward)->Apply(shapes);

}  // namespace
}  // namespace ringbolt

BENCHMARK_MAIN();
