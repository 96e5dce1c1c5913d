// Which instruction set the CPU kernels use: chosen once at run time, each set compiled in files of
// its own.
#pragma once

#include <string>
#include <vector>

namespace ringbolt::cpu {

/// Ordered: each includes those before it.
enum class Isa { generic, avx2, avx512, avx512_bf16 };

/// The best one that both this build and this machine have, or the one that RINGBOLT_CPU_ISA names.
/// Throws: UsageError for an unknown name, or one that this machine lacks.
Isa choose_isa();
/// All that this build and this machine have, from generic upwards (tests run each).
std::vector<Isa> available_isas();
std::string name_of(Isa isa);

}  // namespace ringbolt::cpu
