#include "rope/table.h"

#include <algorithm>
#include <optional>

#include "rope/angle_rows.h"

namespace ringbolt {

RotaryTable make_rotary_table(Backend& backend, std::span<const double> frequencies,
                              std::span<const int64_t> positions, double factor) {
  const size_t pairs = frequencies.size();
  std::vector<float> cosines(positions.size() * pairs);
  std::vector<float> sines(positions.size() * pairs);
  AngleRows rows(frequencies);
  for (size_t t = 0; t < positions.size(); ++t)
    rows.write(positions[t], factor, &cosines[t * pairs], &sines[t * pairs]);
  const Shape shape{static_cast<int64_t>(positions.size()), static_cast<int64_t>(pairs)};
  return {upload_new(backend, DType::f32, shape, cosines.data()),
          upload_new(backend, DType::f32, shape, sines.data()),
          std::nullopt,
          RotatedBy::block,
          {}};
}

RotaryTable make_rotary_table(Backend& backend, const RotaryMethod& method,
                              std::span<const int64_t> positions, int64_t length) {
  if (length == 0 && !positions.empty())
    length = *std::max_element(positions.begin(), positions.end()) + 1;
  const RotarySchedule& schedule = method.at(length);
  RotaryTable table =
      make_rotary_table(backend, schedule.frequencies, positions, schedule.attention_factor);
  if (method.scales_queries()) table.query_scale = make_query_scale(backend, method, positions);
  return table;
}

Tensor make_query_scale(Backend& backend, const RotaryMethod& method,
                        std::span<const int64_t> positions) {
  std::vector<float> scales;
  for (const int64_t position : positions)
    scales.push_back(static_cast<float>(method.query_scale(position)));
  return upload_new(backend, DType::f32, {std::ssize(scales)}, scales.data());
}

RotaryTables rotary_tables(Backend& backend, const RotaryMethod& method, int64_t length) {
  if (is_two_part(method.config().rope_scaling.method)) {
    return [](std::span<const int64_t>) { return rotated_by_attention(); };
  }
  return [&backend, &method, length](std::span<const int64_t> positions) {
    return make_rotary_table(backend, method, positions, length);
  };
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
