// Where the ranks of a process meet: `threads` matches the two sides of a message here.
//
// Everything is under one mutex but the copying of bytes. A message between buffers of device
// memory is no more than the meeting: the copy is given to a transfer stream, and both ranks learn
// the mark behind it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "core/backend/transfers.h"
#include "parallel/communicator.h"

namespace ringbolt::threads {

using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::mutex>;

/// One direction of an exchange, on its rank's side. All under the hub's mutex, but the bytes.
struct Side {
  int owner = -1;
  int peer = -1;
  std::byte* data = nullptr;  ///< a sender's is only read
  size_t bytes = 0;
  bool sends = false;
  bool done = true;
  bool copying = false;         ///< one of the two ranks copies, without the mutex
  Side* matched = nullptr;      ///< the other rank's side, until done
  Transfers* device = nullptr;  ///< of its rank, where `data` is device memory
  Mark ready;                   ///< behind which the device's memory may be read, or written
  Mark copied;                  ///< once done: behind the copy
};

/// Where the ranks of a process meet.
class Hub {
 public:
  explicit Hub(int ranks) : wake_(static_cast<size_t>(ranks)), ended_(static_cast<size_t>(ranks)) {}

  std::mutex mutex;

  int ranks() const { return static_cast<int>(wake_.size()); }

  /// Channel, tag, source, destination.
  using Key = std::tuple<int64_t, Tag, int, int>;
  /// Finds the side's counterpart, or leaves it for that to find.
  void post(const Key& key, Side& side);
  /// Takes back a side that may not be done: its buffer is free afterwards.
  void withdraw(const Key& key, Side& side, Lock& lock);
  /// Copies what is matched and nobody copies yet; gives the mutex back meanwhile. Device memory is
  /// copied on the transfer stream of the rank that calls, in the order of both ranks' streams.
  void progress(Side& side, Lock& lock);

  /// Only the first rank that fails counts: what others throw then was caused by it. The error may
  /// be given later, when it is known.
  void fail(int rank, const std::exception_ptr& error = nullptr);
  void end(int rank);
  bool has_failed() const { return failed_rank_ >= 0; }
  bool has_ended(int rank) const { return ended_[static_cast<size_t>(rank)]; }
  /// Throws what the first rank that failed threw.
  [[noreturn]] void rethrow() const;
  /// Throws what `rank` is to know of the failure.
  [[noreturn]] void throw_failure(int rank) const;

  /// Sleeps until something happens to `rank`; false when `until` has passed.
  bool sleep(int rank, Lock& lock, Clock::time_point until) {
    return wake_[static_cast<size_t>(rank)].wait_until(lock, until) == std::cv_status::no_timeout;
  }
  /// Sleeps until all ranks have ended, or `grace` has passed since one failed: then its error.
  std::exception_ptr outlasting_failure(std::chrono::nanoseconds grace);

 private:
  static void copy_on_device(Side& mine, const Side& from, const Side& to);
  void finish(Side& side, Side& other);

  struct Unmatched {
    std::deque<Side*> sends;
    std::deque<Side*> receives;
  };
  void wake_all() {
    for (std::condition_variable& wake : wake_) wake.notify_all();
    changed_.notify_all();
  }

  std::map<Key, Unmatched> unmatched_;
  std::vector<std::condition_variable> wake_;  ///< one a rank
  std::condition_variable changed_;            ///< a rank ended, or failed
  std::vector<bool> ended_;
  std::exception_ptr first_error_;
  int failed_rank_ = -1;
};

}  // namespace ringbolt::threads
