// "Stop soon": SIGTERM, SIGUSR1 (batch systems send it before the time limit) and SIGINT, asked
// about between steps.
#pragma once

namespace ringbolt {

/// One a process. While it lives, the first of these signals is only noted; a second SIGINT ends
/// the process as usual.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// The number of the signal that came, or 0.
  int received() const;
};

/// "SIGTERM", …; "no signal" for 0.
const char* signal_name(int number);

}  // namespace ringbolt
