// Operands of what `ringbolt bench` times.
#pragma once

#include <cstdint>

#include "core/backend/backend.h"

namespace ringbolt {

/// Uniform in [-1, 1], of f32 or bf16. Large tensors repeat a block of a million numbers, which the
/// device copies: drawing all on the host would take longer than what is to be measured.
Tensor random_tensor(Backend& backend, DType dtype, Shape shape, uint64_t seed);

}  // namespace ringbolt
