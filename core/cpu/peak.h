// The floating-point peak of this machine, measured: fused multiply-adds on registers alone, on
// every thread.
#pragma once

#include <cstdint>

#include "core/cpu/isa.h"
#include "core/tensor/dtype.h"

namespace ringbolt::cpu {

struct PeakLoops {
  float (*f32)(int64_t iterations);   ///< the result only keeps the work alive
  int64_t f32_flops;                  ///< an iteration
  float (*bf16)(int64_t iterations);  ///< null without bf16 instructions
  int64_t bf16_flops;
};

PeakLoops peak_loops_generic();
PeakLoops peak_loops_avx2();
PeakLoops peak_loops_avx512();
PeakLoops peak_loops_avx512_bf16();

/// Floating-point operations a second over all threads with inputs of `dtype`: the best of the runs
/// of 1 to 2 ms that `seconds` have room for, at least one. 0 for bf16 without bf16 instructions.
double measure_peak(Isa isa, DType dtype, double seconds);

}  // namespace ringbolt::cpu
