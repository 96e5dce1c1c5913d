// NCCL communicators with a stream each, and what those of a rank have in common.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/cuda/transfers.h"
#include "parallel/communicator.h"
#include "parallel/device_watchdog.h"
#include "parallel/nccl.functions.h"
#include "parallel/nccl.h"

namespace ringbolt {

using cuda::StreamTransfers;

/// What the communicators of a rank share.
class NcclRank {
 public:
  /// `recorder`: of the device, or none.
  NcclRank(Communicator& host, StreamTransfers& device, Recorder* recorder, GiveUp give_up)
      : host_(host),
        device_(device),
        recorder_(recorder),
        watchdog_(device, {.poll = [this] { return poll(); },
                           .abort = [this] { abort_all(); },
                           .give_up = std::move(give_up)}) {}

  StreamTransfers& device() { return device_; }
  RankContext& context() { return host_.context(); }
  DeviceWatchdog& watchdog() { return watchdog_; }
  /// Around every call with a communicator: the watchdog aborts them from its own thread.
  std::mutex& mutex() { return mutex_; }

  /// As require_whole(), and asks NCCL itself: before ranks agree on what came of their exchanges.
  void require_no_error() {
    const std::string error = poll();
    require_whole();  // not before: a watchdog that fails leaves no communicator to ask
    if (!error.empty()) fail(error);
  }
  void require_whole() const {
    const std::string failure = watchdog_.failure();
    if (!failure.empty()) throw CommError(failure);
  }
  [[noreturn]] void fail(const std::string& what) {
    watchdog_.fail(what);
    throw CommError(what);
  }
  std::string failed(const std::string& call, ncclResult_t result, ncclComm_t comm) const {
    const char* more = nccl().GetLastError(comm);
    return message(
        concat("rank ", host_.rank(), ": ", call, " failed"),
        concat(nccl().GetErrorString(result), more == nullptr || *more == '\0' ? "" : ": ",
               more == nullptr ? "" : more),
        "Look at the rank that failed first; NCCL_DEBUG=WARN makes NCCL say more.");
  }
  bool is_recording() const { return recorder_ != nullptr && recorder_->is_recording(); }
  /// Counts what another rank sends: now or, in a recording, with every replay.
  void count(size_t bytes, int64_t messages);
  /// Instead of every exchange of a recording its replays are watched, each as a whole: the time
  /// that a rank may take is then that of all that was recorded.
  void watch_replays();
  void add(ncclComm_t comm) { comms_.push_back(comm); }
  /// False where the watchdog has aborted it.
  bool remove(ncclComm_t comm) { return std::erase(comms_, comm) > 0; }

 private:
  std::string poll() {
    const std::lock_guard lock(mutex_);
    for (const ncclComm_t comm : comms_) {
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = nccl().CommGetAsyncError(comm, &state);
      if (!is_good(asked)) return failed("ncclCommGetAsyncError", asked, comm);
      if (!is_good(state)) return failed("an exchange between GPUs", state, comm);
    }
    return "";
  }
  void abort_all() {
    const std::lock_guard lock(mutex_);
    for (const ncclComm_t comm : comms_) nccl().CommAbort(comm);
    comms_.clear();
  }

  Communicator& host_;
  StreamTransfers& device_;
  Recorder* recorder_;
  /// Of the exchanges of one recording.
  struct Recorded {
    int64_t bytes = 0;
    int64_t messages = 0;
  };
  std::weak_ptr<Recorded> recorded_;  ///< of the recording under way; the recording has it
  std::mutex mutex_;
  std::vector<ncclComm_t> comms_;
  DeviceWatchdog watchdog_;
};

/// One NCCL communicator and its stream: what it is given runs in order.
class NcclChannel {
 public:
  /// Collective over `host`.
  NcclChannel(NcclRank& rank, Communicator& host);
  NcclChannel(const NcclChannel&) = delete;
  NcclChannel& operator=(const NcclChannel&) = delete;
  ~NcclChannel();

  /// Gives `start(comm, stream)`, a group of NCCL calls, to the stream, behind what the compute
  /// stream was given so far. Returns the mark behind it. In a recording, where its stream is in
  /// capture from here to the wait for the mark, NCCL is asked as ever: that takes no CUDA call.
  template <class Start>
  Mark run(const std::string& name, const std::string& late, const Start& start);

 private:
  static ncclUniqueId agree_on_id(NcclRank& rank, Communicator& host);
  /// Until NCCL has done what it was asked, or `seconds` (0: no limit) are over: then false.
  bool settle(const std::string& call, double seconds);

  NcclRank& rank_;
  cuda::Stream stream_;
  ncclComm_t comm_ = nullptr;
};

template <class Start>
Mark NcclChannel::run(const std::string& name, const std::string& late, const Start& start) {
  const Mark ready = rank_.device().computed();
  StreamTransfers::after(stream_.get(), ready);
  {
    const std::lock_guard lock(rank_.mutex());
    rank_.require_whole();
    ncclResult_t result = nccl().GroupStart();
    if (is_good(result)) {
      const ncclResult_t started = start(comm_, stream_.get());
      result = nccl().GroupEnd();
      if (!is_good(started)) result = started;
    }
    if (!is_good(result)) rank_.fail(rank_.failed(name, result, comm_));
  }
  const double seconds = rank_.context().timeout_seconds;
  if (!settle(name, seconds))
    rank_.fail(late);  // the first message between two ranks connects them
  Mark done = StreamTransfers::behind(stream_.get());
  if (rank_.is_recording()) {
    rank_.watch_replays();  // marks of a capture mean nothing to a host
  } else {
    rank_.watchdog().watch({ready, done, seconds, late});
  }
  return done;
}

}  // namespace ringbolt
