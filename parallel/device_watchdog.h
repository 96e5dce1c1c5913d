// Watches what a device's streams do for other ranks: an exchange that nobody answers would keep
// the stream, and whoever waits for the stream, for ever.
//
// A thread of its own looks at marks and at the library's own errors. After the first failure it
// has the exchanges aborted, so that the streams run out and the ranks' own threads come back to
// find the failure; an abort that hangs itself ends the process.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "core/backend/transfers.h"

namespace ringbolt {

class DeviceWatchdog {
 public:
  struct Actions {
    /// What the library says has failed, "" for nothing. Called about 50 times a second.
    std::function<std::string()> poll;
    /// Ends all exchanges that are under way.
    std::function<void()> abort;
    /// Called with the failure where `abort` does not return; must not return itself.
    std::function<void(const std::string&)> give_up;
  };
  struct Watched {
    Mark ready;              ///< behind what the device has to do first: until then nobody is late
    Mark done;               ///< behind the exchange
    double timeout_seconds;  ///< 0: no limit
    std::string late;        ///< the failure, if it takes longer
  };

  /// `abort_seconds`: the longest that an abort may take. Actions are called on threads of the
  /// watchdog; what they use must outlive it.
  DeviceWatchdog(Transfers& device, Actions actions, double abort_seconds = 10);
  DeviceWatchdog(const DeviceWatchdog&) = delete;
  DeviceWatchdog& operator=(const DeviceWatchdog&) = delete;
  /// Returns at once; what is still watched is forgotten.
  ~DeviceWatchdog();

  void watch(Watched exchange);
  /// The first failure; "" for none.
  std::string failure() const;
  /// Has the exchanges aborted, as after a failure that the watchdog found; later ones change
  /// nothing.
  void fail(const std::string& what);

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    Watched exchange;
    bool begun = false;
    Clock::time_point since;
  };

  void run();
  /// Why this thread cannot use the device; "" where it can.
  std::string enter();
  std::string look(Clock::time_point now);
  std::string late(Clock::time_point now);
  void abort();

  Transfers& device_;
  Actions actions_;
  double abort_seconds_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Entry> watched_;
  std::string failure_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ringbolt
