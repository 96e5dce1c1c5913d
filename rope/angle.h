// Rotary angles, formed and reduced in double.
#pragma once

#include <cstdint>

namespace ringbolt {

/// position * frequency reduced to [0, 2 pi), in double. Absolute error below 1e-8 rad for
/// positions below 2^24.
double rotary_angle(int64_t position, double frequency);

}  // namespace ringbolt
