// Compiled once an instruction set: loops of fused multiply-adds that touch nothing but registers.
#include "core/cpu/peak.h"
#include "core/cpu/simd.h"

#define RINGBOLT_JOIN_(a, b) a##b
#define RINGBOLT_JOIN(a, b) RINGBOLT_JOIN_(a, b)

namespace ringbolt::cpu {
namespace {

// The assembler constraint of a vector register.
#if defined(__x86_64__)
#define RINGBOLT_IN_REGISTER "+x"
#else
#define RINGBOLT_IN_REGISTER "+w"
#endif

// Sums at a time: more than latency x throughput of any core (8 for f32, 12 for the dot product in
// bf16, which wants some to spare), and registers enough for them and two operands.
#if defined(__AVX512F__)
constexpr int kRegisters = 32;
constexpr int kChains = 16;
#else
constexpr int kRegisters = 16;
constexpr int kChains = 12;
#endif
static_assert(kChains + 2 <= kRegisters, "else what is timed are trips to memory");

float f32_loop(int64_t iterations) {
  Floats sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = Floats{} + static_cast<float>(c);
  Floats a = Floats{} + 0.999F;
  Floats b = Floats{} + 0.001F;
  for (int64_t i = 0; i < iterations; ++i) {
    for (Floats& sum : sums) sum = sum * a + b;
    asm volatile("" : RINGBOLT_IN_REGISTER(a), RINGBOLT_IN_REGISTER(b));  // keeps the loop a loop
  }
  float total = 0;
  for (const Floats& sum : sums) {
    for (int l = 0; l < kLanes; ++l) total += sum[l];
  }
  return total;
}

#if defined(__AVX512BF16__)
float bf16_loop(int64_t iterations) {
  __m512 sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = _mm512_set1_ps(static_cast<float>(c));
  __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5F), _mm512_set1_ps(0.25F));
  __m512bh b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.001F), _mm512_set1_ps(0.002F));
  for (int64_t i = 0; i < iterations; ++i) {
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, a, b);
    asm volatile("" : RINGBOLT_IN_REGISTER(a), RINGBOLT_IN_REGISTER(b));
  }
  float lanes[kLanes];
  float total = 0;
  for (const __m512& sum : sums) {
    _mm512_storeu_ps(lanes, sum);
    for (float lane : lanes) total += lane;
  }
  return total;
}
#endif

}  // namespace

PeakLoops RINGBOLT_JOIN(peak_loops_, RINGBOLT_ISA)() {
#if defined(__AVX512BF16__)
  return {f32_loop, 2 * kChains * kLanes, bf16_loop, 4 * kChains * kLanes};
#else
  return {f32_loop, 2 * kChains * kLanes, nullptr, 0};
#endif
}

}  // namespace ringbolt::cpu
