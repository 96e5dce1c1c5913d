// What ranks tell each other after every step: whether to stop, and what the step cost the slowest
// of them.
#pragma once

#include <cstdint>

#include "parallel/communicator.h"

namespace ringbolt {

/// The largest of all ranks.
struct StepPulse {
  int64_t signal = 0;  ///< that one of them received; 0: none
  double exposed_seconds =
      0;  ///< waited for others during the step: communication that nothing hid
  int64_t received_bytes = 0;  ///< during the step
  int64_t peak_bytes = 0;      ///< of tensors, since the run began
};

class StepMeter {
 public:
  explicit StepMeter(Communicator& world) : world_(world) {}

  /// The step's communication counts from here. Messages about a failing rank name the step.
  void begin(int64_t step);
  /// Collective: all ranks get the same, so that all stop after the same step.
  StepPulse end(int64_t signal, int64_t peak_bytes);

 private:
  Communicator& world_;
  Traffic before_;
};

}  // namespace ringbolt
