#include "parallel/nccl.channel.h"

#include <sched.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <thread>

namespace ringbolt {
namespace {

using Clock = std::chrono::steady_clock;

/// The longest that the end of a communicator may take before it is aborted instead.
constexpr double kFinalizeSeconds = 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

void NcclRank::count(size_t bytes, int64_t messages) {
  if (is_recording()) {
    watch_replays();
    const std::shared_ptr<Recorded> recorded = recorded_.lock();
    recorded->bytes += static_cast<int64_t>(bytes);
    recorded->messages += messages;
    return;
  }
  context().traffic.received_bytes += static_cast<int64_t>(bytes);
  context().traffic.messages += messages;
}

void NcclRank::watch_replays() {
  if (!recorded_.expired()) return;
  const auto recorded = std::make_shared<Recorded>();
  recorded_ = recorded;
  recorder_->at_replay([this, recorded](const Replay& replay) {
    if (recorded_.lock() == recorded) recorded_.reset();  // the next recording counts anew
    require_whole();
    Traffic& traffic = context().traffic;
    traffic.received_bytes += recorded->bytes;
    traffic.messages += recorded->messages;
    traffic.waited_seconds += device_.take_paused_seconds();
    const double seconds = context().timeout_seconds;
    watchdog_.watch({replay.begun, replay.done, seconds,
                     message(concat("rank ", host_.rank(), " waited ", seconds,
                                    " s for the other ranks in a recorded micro-batch",
                                    context().step > 0 ? concat(" of step ", context().step) : ""),
                             "one of them hangs, was stopped, or is far behind",
                             "Look at what those ranks do; give --watchdog-seconds more if a "
                             "micro-batch takes that long.")});
  });
}

/// Rank 0's, or its error.
ncclUniqueId NcclChannel::agree_on_id(NcclRank& rank, Communicator& host) {
  struct Offer {
    ncclUniqueId id;
    ncclResult_t result;
  } offer{};
  if (host.rank() == 0) offer.result = nccl().GetUniqueId(&offer.id);
  const Traffic before = host.context().traffic;
  host.broadcast(std::as_writable_bytes(std::span(&offer, 1)), 0);
  host.context().traffic = before;  // setting up is not what an operation moves
  if (offer.result != ncclSuccess) {
    rank.fail(message("rank 0 of a group cannot begin to communicate by NCCL",
                      nccl().GetErrorString(offer.result),
                      "See NCCL_SOCKET_IFNAME and the network of that machine; NCCL_DEBUG=WARN "
                      "makes NCCL say more."));
  }
  return offer.id;
}

NcclChannel::NcclChannel(NcclRank& rank, Communicator& host)
    : rank_(rank), stream_(cuda::make_urgent_stream()) {
  const ncclUniqueId id = agree_on_id(rank, host);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  {
    const std::lock_guard lock(rank_.mutex());
    const ncclResult_t result =
        nccl().CommInitRankConfig(&comm_, host.size(), id, host.rank(), &config);
    if (comm_ != nullptr) rank_.add(comm_);
    if (!is_good(result)) rank_.fail(rank_.failed("ncclCommInitRankConfig", result, comm_));
  }
  const double seconds = rank_.context().timeout_seconds;
  if (!settle("ncclCommInitRankConfig", seconds)) {
    rank_.fail(message(concat("rank ", host.rank(), " waited ", seconds, " s for the other ",
                              host.size() - 1, " ranks of its group to begin with NCCL"),
                       "one of them hangs, was stopped, or is far behind",
                       "Look at what those ranks do; give --watchdog-seconds more if they are only "
                       "slow."));
  }
}

NcclChannel::~NcclChannel() {
  // After an error the other ranks may never come to the end that they must come to together.
  const bool in_order = std::uncaught_exceptions() == 0 && rank_.watchdog().failure().empty();
  bool finished = false;
  try {
    if (in_order) {
      {
        const std::lock_guard lock(rank_.mutex());
        finished = is_good(nccl().CommFinalize(comm_));
      }
      finished = finished && settle("ncclCommFinalize", kFinalizeSeconds);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ringbolt: %s\n", error.what());
    finished = false;
  }
  const std::lock_guard lock(rank_.mutex());
  if (!rank_.remove(comm_)) return;
  static_cast<void>(finished ? nccl().CommDestroy(comm_) : nccl().CommAbort(comm_));
}

bool NcclChannel::settle(const std::string& call, double seconds) {
  const Clock::time_point start = Clock::now();
  constexpr double kYield = 5e-3;
  constexpr std::chrono::microseconds kNap(50);
  for (;;) {
    {
      const std::lock_guard lock(rank_.mutex());
      rank_.require_whole();
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = nccl().CommGetAsyncError(comm_, &state);
      if (state == ncclSuccess && asked == ncclSuccess) return true;
      if (!is_good(state) || !is_good(asked))
        rank_.fail(rank_.failed(call, is_good(state) ? asked : state, comm_));
    }
    const double waited = seconds_since(start);
    if (seconds > 0 && waited > seconds) return false;
    if (waited > kYield) {
      std::this_thread::sleep_for(kNap);
    } else {
      sched_yield();
    }
  }
}

}  // namespace ringbolt
