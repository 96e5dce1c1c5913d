// Learning-rate schedules: warm-up from zero, then constant, linear or cosine decay.
#pragma once

#include <cstdint>
#include <string_view>

namespace ringbolt {

struct LearningRateSchedule {
  enum class Shape { constant, linear, cosine };
  Shape shape = Shape::constant;
  double peak = 1e-3;
  double minimum = 0;        ///< where linear and cosine end
  int64_t warmup_steps = 0;  ///< step 1 has peak / warmup_steps, step warmup_steps the peak
  int64_t total_steps = 1;   ///< the decay ends here

  /// The rate of a step, the first being 1.
  double at(int64_t step) const;
};

/// "constant", "linear", "cosine". Throws: UsageError for another.
LearningRateSchedule::Shape schedule_shape(std::string_view name);

}  // namespace ringbolt
