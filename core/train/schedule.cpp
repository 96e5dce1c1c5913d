#include "core/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace ringbolt {

double LearningRateSchedule::at(int64_t step) const {
  if (step < warmup_steps)
    return peak * static_cast<double>(step) / static_cast<double>(warmup_steps);
  if (shape == Shape::constant) return peak;
  const double span = static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps));
  const double done = std::clamp(static_cast<double>(step - warmup_steps) / span, 0.0, 1.0);
  const double left =
      shape == Shape::linear ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done));
  return minimum + (peak - minimum) * left;
}

LearningRateSchedule::Shape schedule_shape(std::string_view name) {
  using Shape = LearningRateSchedule::Shape;
  if (name == "constant") return Shape::constant;
  if (name == "linear") return Shape::linear;
  if (name == "cosine") return Shape::cosine;
  throw UsageError(message(concat("unknown schedule '", name, "'"),
                           "known are constant, linear, cosine", "Try --schedule cosine."));
}

}  // namespace ringbolt
