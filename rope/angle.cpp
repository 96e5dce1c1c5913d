#include "rope/angle.h"

#include <cmath>
#include <numbers>

namespace ringbolt {

double rotary_angle(int64_t position, double frequency) {
  const double angle = std::fmod(static_cast<double>(position) * frequency, 2 * std::numbers::pi);
  return angle < 0 ? angle + 2 * std::numbers::pi : angle;
}

}  // namespace ringbolt
