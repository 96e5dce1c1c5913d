#include "rope/method.h"

#include <algorithm>
#include <cmath>

#include "rope/dprope.h"
#include "rope/frequencies.h"
#include "rope/llama3.h"
#include "rope/log_scale.h"
#include "rope/longrope.h"
#include "rope/p_rope.h"
#include "rope/resonance.h"
#include "rope/yarn.h"

namespace ringbolt {
namespace {

RotarySchedule base_schedule(const ModelConfig& config, int64_t length, const ClexWeights& clex) {
  const RopeScaling& s = config.rope_scaling;
  const int64_t dim = rotary_dimension(s, config.head_dim);
  const int64_t original = config.rope_original_length();
  const double base = config.rope_theta;
  const double needed = dynamic_factor(original, length);
  switch (s.method) {
    case RopeMethod::none:
    case RopeMethod::self_extend:
    case RopeMethod::rerope:
    case RopeMethod::leaky_rerope:
      return {default_frequencies(dim, base)};
    case RopeMethod::linear:
      return {linear_frequencies(dim, base, s.factor)};
    case RopeMethod::dynamic_linear:
      return {linear_frequencies(dim, base, needed)};
    case RopeMethod::ntk:
      return {default_frequencies(dim, ntk_base(dim, base, s.factor))};
    case RopeMethod::ntk_mixed:
      return {ntk_mixed_frequencies(dim, base, s.factor)};
    case RopeMethod::dynamic_ntk:
      return {default_frequencies(dim, dynamic_ntk_base(dim, base, s.factor, original, length))};
    case RopeMethod::ntk_by_parts: {
      RopeScaling rotations = s;
      rotations.ramp = YarnRamp::rotations;
      return {yarn_frequencies(dim, base, original, s.factor, rotations)};
    }
    case RopeMethod::part_ntk:
      return {part_ntk_frequencies(dim, base, original, s.factor)};
    case RopeMethod::yarn:
      return {yarn_frequencies(dim, base, original, s.factor, s),
              yarn_attention_factor(s.factor, s)};
    case RopeMethod::dynamic_yarn:
      return {yarn_frequencies(dim, base, original, needed, s), yarn_attention_factor(needed, s)};
    case RopeMethod::longrope:
      return {longrope_frequencies(dim, base, length > original ? s.long_factor : s.short_factor),
              longrope_attention_factor(s.factor, original)};
    case RopeMethod::llama3:
      return {
          llama3_frequencies(dim, base, s.factor, s.low_freq_factor, s.high_freq_factor, original)};
    case RopeMethod::dprope:
      return {dprope_frequencies(dim, base, s.factor, original, s.interpolated_dimensions)};
    case RopeMethod::clex:
      return {Clex(config, clex)
                  .frequencies(static_cast<double>(Clex::scale_of(length, original, s.factor)))};
  }
  return {};
}

}  // namespace

RotarySchedule rotary_schedule(const ModelConfig& config, int64_t length, const ClexWeights& clex) {
  const RopeScaling& s = config.rope_scaling;
  RotarySchedule schedule = base_schedule(config, length, clex);
  schedule.attention_factor = s.attention_factor.value_or(schedule.attention_factor);
  if (s.resonance) make_resonant(schedule.frequencies);
  keep_rotated_share(schedule.frequencies, s.rotated_share, s.rotated_pairs);
  return schedule;
}

int64_t RotaryMethod::key_of(int64_t length) const {
  const int64_t original = config_.rope_original_length();
  switch (config_.rope_scaling.method) {
    case RopeMethod::clex:
      return Clex::scale_of(length, original, config_.rope_scaling.factor);
    case RopeMethod::longrope:
      return length > original ? 1 : 0;
    default:
      return depends_on_length() ? std::max(length, original) : 0;
  }
}

const RotarySchedule& RotaryMethod::at(int64_t length) const {
  const int64_t key = key_of(length);
  if (!schedule_ || key != key_) {
    schedule_ = rotary_schedule(config_, length, clex_);
    ++schedules_made_;
  }
  key_ = key;
  return *schedule_;
}

double RotaryMethod::query_scale(int64_t position) const {
  return log_query_scale(config_.rope_scaling.log_scale, position, config_.rope_original_length());
}

}  // namespace ringbolt
