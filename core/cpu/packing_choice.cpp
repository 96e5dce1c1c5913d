#include "core/cpu/isa.h"
#include "core/cpu/packing_kernels.h"

namespace ringbolt::cpu {

const PackingKernels& packing_kernels(Isa isa) {
#ifndef RINGBOLT_GENERIC_ONLY
  if (isa >= Isa::avx512) return packing_kernels_avx512();
#endif
  static_cast<void>(isa);
  return packing_kernels_generic();
}

}  // namespace ringbolt::cpu
