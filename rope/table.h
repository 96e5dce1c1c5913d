// The rotary table: cos and sin of each token's angles, from its *global* position.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/backend/backend.h"
#include "core/model/rotary_table.h"
#include "rope/angle.h"
#include "rope/method.h"

namespace ringbolt {

/// The table of a method for T tokens at these positions of a sequence of `length` tokens; 0 takes
/// the largest position
/// + 1, which is right where all of the sequence is here. Error of each element: one rounding to
/// f32 and 1e-8.
RotaryTable make_rotary_table(Backend& backend, const RotaryMethod& method,
                              std::span<const int64_t> positions, int64_t length = 0);

/// The factors (T) of queries at these positions. Requires: method.scales_queries().
Tensor make_query_scale(Backend& backend, const RotaryMethod& method,
                        std::span<const int64_t> positions);

/// Tables (T, R/2) of R/2 frequencies, cos and sin multiplied by `factor`.
RotaryTable make_rotary_table(Backend& backend, std::span<const double> frequencies,
                              std::span<const int64_t> positions, double factor = 1.0);

/// The same as a function, for those who hold positions. Where the attention rotates (two parts)
/// tables are empty. Backend and method must outlive it.
RotaryTables rotary_tables(Backend& backend, const RotaryMethod& method, int64_t length = 0);

/// 0, 1, … length - 1, `sequences` times: the positions of a micro-batch, each sequence from its
/// start.
std::vector<int64_t> sequence_positions(int64_t length, int64_t sequences = 1);

}  // namespace ringbolt
