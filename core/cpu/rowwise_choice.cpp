#include "core/cpu/rowwise_kernels.h"

namespace ringbolt::cpu {

const RowwiseKernels& rowwise_kernels(Isa isa) {
#ifndef RINGBOLT_GENERIC_ONLY
  if (isa >= Isa::avx512) return rowwise_kernels_avx512();
  if (isa == Isa::avx2) return rowwise_kernels_avx2();
#endif
  static_cast<void>(isa);
  return rowwise_kernels_generic();
}

}  // namespace ringbolt::cpu
