// Work that a device is given once and then again as a whole: the host's part, an operation at a
// time, is paid once (on a GPU: a CUDA graph).
//
// A recording keeps the addresses and numbers that its operations were called with. What lies at
// the addresses may change between replays, and that is how one differs from the next; whatever
// else the host would have decided otherwise is decided as it was.
#pragma once

#include <functional>
#include <memory>

#include "core/backend/transfers.h"

namespace ringbolt {

class Recording {
 public:
  virtual ~Recording() = default;
  /// Gives the recorded operations to the compute stream, in the order in which they were called.
  /// Requires: all memory that they were called with still is there. Throws: DeviceError where the
  /// device has no room for the memory that they take and release.
  virtual void replay() = 0;
};

/// A replay that was just given to the device.
struct Replay {
  Mark begun;  ///< behind what the compute stream was given before it
  Mark done;   ///< behind the replay
};

class Recorder {
 public:
  virtual ~Recorder() = default;

  /// Calls `work` and keeps the operations that it gives to the compute stream, and those of other
  /// streams that begin behind them and that the compute stream is put behind in the end; none of
  /// them runs. `work` may allocate, must release what it allocates and nothing older, and must
  /// neither wait for the device nor copy from or to the host. What libraries prepare when they are
  /// first used has to be prepared before. Waits for the device.
  /// Throws: UsageError naming what the work may not do; what it throws. No recording is under way
  /// then, and the backend is usable.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& work) = 0;
  /// Within record(): whether this is its work.
  virtual bool is_recording() const = 0;
  /// Within record(): the host's part of the recorded work, called by every replay: what is to be
  /// counted or watched each time. It must outlive the recording. What it throws is thrown by
  /// replay().
  virtual void at_replay(std::function<void(const Replay&)> action) = 0;
};

}  // namespace ringbolt
