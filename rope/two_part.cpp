#include "rope/two_part.h"

#include "rope/table.h"

namespace ringbolt {

FarPositions far_positions(const RopeScaling& s, std::span<const int64_t> positions) {
  FarPositions far;
  const auto leak = static_cast<int64_t>(s.factor);
  for (const int64_t position : positions) {
    switch (s.method) {
      case RopeMethod::self_extend:
        far.queries.push_back(position / s.group + s.window - s.window / s.group);
        far.keys.push_back(position / s.group);
        break;
      case RopeMethod::leaky_rerope:
        far.queries.push_back(position + s.window * (leak - 1));
        far.keys.push_back(position);
        break;
      default:
        far.queries.push_back(s.window);
        far.keys.push_back(0);
    }
  }
  if (s.method == RopeMethod::leaky_rerope) far.divisor = static_cast<double>(leak);
  return far;
}

double effective_distance(const RopeScaling& s, int64_t m, int64_t n) {
  if (m - n < s.window) return static_cast<double>(m - n);
  const FarPositions query = far_positions(s, std::span(&m, 1));
  const FarPositions key = far_positions(s, std::span(&n, 1));
  return static_cast<double>(query.queries[0] - key.keys[0]) / query.divisor;
}

int64_t self_extend_reach(int64_t trained_length, int64_t window, int64_t group) {
  return (trained_length - window) * group + window;
}

TwoPartTables make_two_part_tables(Backend& backend, const RotaryMethod& method,
                                   std::span<const int64_t> positions) {
  const FarPositions far = far_positions(method.config().rope_scaling, positions);
  const RotarySchedule& schedule = method.at(0);
  std::vector<double> frequencies = schedule.frequencies;
  for (double& theta : frequencies) theta /= far.divisor;
  TwoPartTables tables;
  tables.near = make_rotary_table(backend, method, positions);
  tables.far_queries =
      make_rotary_table(backend, frequencies, far.queries, schedule.attention_factor);
  tables.far_keys = make_rotary_table(backend, frequencies, far.keys, schedule.attention_factor);
  if (method.scales_queries())
    tables.far_queries.query_scale = make_query_scale(backend, method, positions);
  return tables;
}

TwoPartRotation two_part_rotation(Backend& backend, const RotaryMethod& method) {
  return {method.config().rope_scaling.window,
          [&backend, &method](std::span<const int64_t> positions) {
            return make_two_part_tables(backend, method, positions);
          }};
}

std::unique_ptr<Placement> place_for_method(
    Backend& backend, const RotaryMethod& method,
    const std::function<std::unique_ptr<Placement>(DistanceRange distances)>& make) {
  const ModelConfig& config = method.config();
  if (!is_two_part(config.rope_scaling.method)) return make({});
  DistanceRange near;
  DistanceRange far;
  near.below = far.least = config.rope_scaling.window;
  return std::make_unique<TwoPartPlacement>(
      backend, config.rotary_pairing, two_part_rotation(backend, method), make(near), make(far));
}

}  // namespace ringbolt
