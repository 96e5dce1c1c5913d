#include "core/cpu/isa.h"
#include "core/cpu/product_kernels.h"

namespace ringbolt::cpu {

ProductKernelsOfIsa product_kernels(Isa isa) {
#ifndef RINGBOLT_GENERIC_ONLY
  if (isa == Isa::avx512_bf16) return product_kernels_avx512_bf16();
  if (isa == Isa::avx512) return product_kernels_avx512();
#endif
  static_cast<void>(isa);
  return {};
}

}  // namespace ringbolt::cpu
