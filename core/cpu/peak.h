// The floating-point peak of this machine, measured: fused multiply-adds on registers alone, on every thread.
#pragma once

#include <cstdint>

#include "core/cpu/isa.h"

namespace ringbolt::cpu {

struct PeakLoops {
  float (*f32)(int64_t iterations);  ///< the result only keeps the work alive
  int64_t f32_flops;                 ///< an iteration
  float (*bf16)(int64_t iterations); ///< null without bf16 instructions
  int64_t bf16_flops;
};

PeakLoops peak_loops_generic();
PeakLoops peak_loops_avx2();
PeakLoops peak_loops_avx512();
PeakLoops peak_loops_avx512_bf16();

struct PeakRate {
  double f32_flops;   ///< floating-point operations a second over all threads, the best of several short runs
  double bf16_flops;  ///< 0 without bf16 instructions
};

/// Takes about `seconds` for each type.
PeakRate measure_peak(Isa isa, double seconds = 0.3);

}  // namespace ringbolt::cpu
