// Random operands, weights and tokens for what is only timed.
//
// Numbers are drawn on the host once, at most a block of them, and the device copies the block to
// whatever is longer: drawing seven billion weights or the queries of a long sequence would take
// longer than what is to be measured.
#pragma once

#include <cstdint>

#include "core/backend/backend.h"
#include "core/model/parameters.h"
#include "core/train/training_data.h"

namespace ringbolt {

/// Uniform in [-1, 1].
Tensor random_tensor(Backend& backend, DType dtype, const Shape& shape, uint64_t seed);

/// The distributions of initialise() (core/model/parameters.h), for stores of either purpose; what
/// a rotary method adds is normal, too.
void fill_random_weights(Backend& backend, ParameterStore& store);

/// Uniform ids; those of a place are the same whoever reads them.
TokenReader random_tokens(int64_t vocab_size);

}  // namespace ringbolt
