#include "rope/table.h"

#include <cmath>
#include <numbers>

namespace ringbolt {

double rotary_angle(int64_t position, double frequency) {
  const double angle = std::fmod(static_cast<double>(position) * frequency, 2 * std::numbers::pi);
  return angle < 0 ? angle + 2 * std::numbers::pi : angle;
}

RotaryTable make_rotary_table(Backend& backend, std::span<const double> frequencies,
                              std::span<const int64_t> positions) {
  const size_t pairs = frequencies.size();
  std::vector<float> cosines(positions.size() * pairs);
  std::vector<float> sines(positions.size() * pairs);
  for (size_t t = 0; t < positions.size(); ++t) {
    for (size_t i = 0; i < pairs; ++i) {
      const double angle = rotary_angle(positions[t], frequencies[i]);
      cosines[t * pairs + i] = static_cast<float>(std::cos(angle));
      sines[t * pairs + i] = static_cast<float>(std::sin(angle));
    }
  }
  const Shape shape{static_cast<int64_t>(positions.size()), static_cast<int64_t>(pairs)};
  return {upload_new(backend, DType::f32, shape, cosines.data()), upload_new(backend, DType::f32, shape, sines.data()),
          std::nullopt};
}

std::vector<int64_t> sequence_positions(int64_t length, int64_t sequences) {
  std::vector<int64_t> positions;
  positions.reserve(static_cast<size_t>(length * sequences));
  for (int64_t s = 0; s < sequences; ++s) {
    for (int64_t p = 0; p < length; ++p) positions.push_back(p);
  }
  return positions;
}

}  // namespace ringbolt
