#include "core/cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "core/cpu/parallel_for.h"

namespace ringbolt::cpu {
namespace {

PeakLoops peak_loops(Isa isa) {
#ifndef RINGBOLT_GENERIC_ONLY
  if (isa == Isa::avx512_bf16) return peak_loops_avx512_bf16();
  if (isa == Isa::avx512) return peak_loops_avx512();
  if (isa == Isa::avx2) return peak_loops_avx2();
#endif
  static_cast<void>(isa);
  return peak_loops_generic();
}

double best_rate(float (*loop)(int64_t), int64_t flops, double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kIterations = 1 << 20;
  const int threads = max_threads();
  std::atomic<float> sink = 0;
  double best = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    const auto start = Clock::now();
    parallel_for(threads, [&](int64_t) { sink = loop(kIterations); });
    const double taken = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, static_cast<double>(flops * kIterations * threads) / taken);
  } while (Clock::now() < end);
  return best;
}

}  // namespace

double measure_peak(Isa isa, DType dtype, double seconds) {
  const PeakLoops loops = peak_loops(isa);
  if (dtype == DType::f32) return best_rate(loops.f32, loops.f32_flops, seconds);
  return loops.bf16 == nullptr ? 0 : best_rate(loops.bf16, loops.bf16_flops, seconds);
}

}  // namespace ringbolt::cpu
