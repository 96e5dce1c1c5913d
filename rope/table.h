// The rotary table: cos and sin of each token's angles, from its *global* position.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/backend/backend.h"
#include "core/model/rotary_table.h"

namespace ringbolt {

/// position * frequency reduced to [0, 2 pi), in double. Absolute error below 1e-9 rad for positions below 2^24.
double rotary_angle(int64_t position, double frequency);

/// Tables (T, R/2) for T tokens at these positions and R/2 frequencies.
RotaryTable make_rotary_table(Backend& backend, std::span<const double> frequencies,
                              std::span<const int64_t> positions);

/// 0, 1, … length - 1, `sequences` times: the positions of a micro-batch, each sequence from its start.
std::vector<int64_t> sequence_positions(int64_t length, int64_t sequences = 1);

}  // namespace ringbolt
