#include "apps/step_pulse.h"

#include <algorithm>
#include <span>
#include <vector>

namespace ringbolt {

void StepMeter::begin(int64_t step) {
  world_.context().step = step;
  before_ = world_.context().traffic;
}

StepPulse StepMeter::end(int64_t signal, int64_t peak_bytes) {
  const Traffic& now = world_.context().traffic;
  const StepPulse mine{signal, now.waited_seconds - before_.waited_seconds,
                       now.received_bytes - before_.received_bytes, peak_bytes};
  std::vector<StepPulse> all(static_cast<size_t>(world_.size()));
  world_.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  StepPulse largest;
  for (const StepPulse& one : all) {
    largest.signal = std::max(largest.signal, one.signal);
    largest.exposed_seconds = std::max(largest.exposed_seconds, one.exposed_seconds);
    largest.received_bytes = std::max(largest.received_bytes, one.received_bytes);
    largest.peak_bytes = std::max(largest.peak_bytes, one.peak_bytes);
  }
  return largest;
}

}  // namespace ringbolt
