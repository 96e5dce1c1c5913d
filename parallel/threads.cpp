#include "parallel/threads.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "parallel/pairwise.h"
#include "parallel/thread_hub.h"
#include "parallel/transport.h"

namespace ringbolt {
namespace {

using threads::Clock;
using threads::Hub;
using threads::Lock;
using threads::Side;

std::chrono::nanoseconds nanoseconds(double seconds) {
  constexpr double kYear = 3e7;
  return std::chrono::nanoseconds(static_cast<int64_t>(std::min(seconds, kYear) * 1e9));
}

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(Hub& hub, int rank) : hub_(hub), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return hub_.ranks(); }
  Request post(const Exchange& exchange) override;
  [[noreturn]] void fail(const std::string& what) override;

 private:
  class Pending;
  Hub& hub_;
  int rank_;
};

class ThreadTransport::Pending final : public Request::Pending {
 public:
  Pending(ThreadTransport& transport, const Exchange& exchange);
  ~Pending() override;
  /// Gives what both sides have posted to the device: before the work that it is to run beside.
  void begin();
  bool test() override;
  void wait() override;
  void abandon() noexcept override;

 private:
  Hub& hub() const { return transport_.hub_; }
  Hub::Key key(const Side& side) const {
    return side.sends ? Hub::Key(exchange_.channel, exchange_.tag, side.owner, side.peer)
                      : Hub::Key(exchange_.channel, exchange_.tag, side.peer, side.owner);
  }
  bool progress(Lock& lock);
  /// As progress(); complete, the compute stream waits for what was copied on a device.
  bool complete(Lock& lock);
  /// The peer's rank for which this one waits.
  int awaited() const { return receive_.done ? send_.peer : receive_.peer; }
  void fail_where_hopeless(Clock::time_point now, Clock::time_point deadline) const;

  ThreadTransport& transport_;
  Exchange exchange_;
  Side send_;
  Side receive_;
  bool counted_ = false;
  bool ordered_ = false;
};

ThreadTransport::Pending::Pending(ThreadTransport& transport, const Exchange& exchange)
    : transport_(transport), exchange_(exchange) {
  const Mark ready = exchange.device != nullptr ? exchange.device->computed() : Mark();
  Lock lock(hub().mutex);
  if (hub().has_failed()) hub().throw_failure(transport_.rank_);
  if (exchange.from >= 0) {
    receive_ = {.owner = transport_.rank_,
                .peer = exchange.from,
                .data = exchange.receive.data(),
                .bytes = exchange.receive.size(),
                .done = false,
                .device = exchange.device,
                .ready = ready,
                .copied = Mark()};
    hub().post(key(receive_), receive_);
  }
  if (exchange.to >= 0) {
    send_ = {.owner = transport_.rank_,
             .peer = exchange.to,
             .data = const_cast<std::byte*>(exchange.send.data()),
             .bytes = exchange.send.size(),
             .sends = true,
             .done = false,
             .device = exchange.device,
             .ready = ready,
             .copied = Mark()};
    hub().post(key(send_), send_);
  }
}

ThreadTransport::Pending::~Pending() {
  if (counted_) return;
  Lock lock(hub().mutex);
  hub().withdraw(key(receive_), receive_, lock);
  hub().withdraw(key(send_), send_, lock);
}

bool ThreadTransport::Pending::progress(Lock& lock) {
  if (hub().has_failed()) hub().throw_failure(transport_.rank_);
  try {
    hub().progress(receive_, lock);
    hub().progress(send_, lock);
  } catch (const CommError&) {
    hub().fail(transport_.rank_, std::current_exception());
    throw;
  }
  if (!receive_.done || !send_.done) return false;
  if (!std::exchange(counted_, true)) transport_.count(exchange_);
  return true;
}

bool ThreadTransport::Pending::complete(Lock& lock) {
  if (!progress(lock)) return false;
  if (exchange_.device != nullptr && !std::exchange(ordered_, true)) {
    compute_behind(*exchange_.device, transport_.context().traffic.waited_seconds, receive_.copied,
                   send_.copied);
  }
  return true;
}

void ThreadTransport::Pending::begin() {
  Lock lock(hub().mutex);
  static_cast<void>(progress(lock));
}

bool ThreadTransport::Pending::test() {
  Lock lock(hub().mutex);
  return complete(lock);
}

void ThreadTransport::Pending::fail_where_hopeless(Clock::time_point now,
                                                   Clock::time_point deadline) const {
  // A copy gave the mutex back meanwhile: a rank may have failed, and others ended because of it.
  if (hub().has_failed()) hub().throw_failure(transport_.rank_);
  std::string what;
  const Side& side = receive_.done ? send_ : receive_;
  if (!side.done && side.matched == nullptr && hub().has_ended(side.peer)) {
    what = message(concat("rank ", transport_.rank_, " waits for rank ", side.peer, " in ",
                          transport_.name_of(exchange_)),
                   concat("rank ", side.peer, " has ended"), "This is a defect of Ringbolt.");
  } else if (now >= deadline) {
    what = transport_.timeout_message(exchange_, awaited());
  } else {
    return;
  }
  hub().fail(transport_.rank_, std::make_exception_ptr(CommError(what)));
  throw CommError(what);
}

void ThreadTransport::Pending::wait() {
  if (exchange_.device != nullptr) exchange_.device->begin_pause();
  Traffic& traffic = transport_.context().traffic;
  const double limit = transport_.context().timeout_seconds;
  const Clock::time_point start = Clock::now();
  const Clock::time_point deadline =
      limit > 0 ? start + nanoseconds(limit) : Clock::time_point::max();
  Lock lock(hub().mutex);
  while (!complete(lock)) {
    // What the peer is copying will end, however late.
    const bool copying = receive_.copying || send_.copying;
    if (!copying) fail_where_hopeless(Clock::now(), deadline);
    const Clock::time_point later = Clock::now() + std::chrono::hours(1);
    hub().sleep(transport_.rank_, lock, copying ? later : std::min(deadline, later));
  }
  // A device's own clock says what it has waited.
  if (exchange_.device == nullptr)
    traffic.waited_seconds += std::chrono::duration<double>(Clock::now() - start).count();
}

void ThreadTransport::Pending::abandon() noexcept {
  const Lock lock(hub().mutex);
  // The error that unwinds the stack is not known here; it follows when the rank's body has ended.
  if (!receive_.done || !send_.done) hub().fail(transport_.rank_);
}

void ThreadTransport::fail(const std::string& what) {
  const Lock lock(hub_.mutex);
  hub_.fail(rank_, std::make_exception_ptr(CommError(what)));
  throw CommError(what);
}

Request ThreadTransport::post(const Exchange& exchange) {
  auto pending = std::make_unique<Pending>(*this, exchange);
  if (exchange.device != nullptr) pending->begin();
  return Request(std::move(pending));
}

void run_rank(Hub& hub, int rank, double timeout_seconds,
              const std::function<void(Communicator&)>& body) {
  std::exception_ptr error;
  try {
    ThreadTransport transport(hub, rank);
    transport.context().timeout_seconds = timeout_seconds;
    PairwiseCommunicator world(transport);
    body(world);
  } catch (...) {
    error = std::current_exception();
  }
  const Lock lock(hub.mutex);
  if (error != nullptr) hub.fail(rank, error);
  hub.end(rank);
}

}  // namespace

void run_thread_ranks(int ranks, double timeout_seconds,
                      const std::function<void(Communicator&)>& body,
                      const std::function<void(const std::exception_ptr&)>& give_up) {
  if (ranks < 1) {
    throw UsageError(message(concat("cannot run on ", ranks, " ranks"),
                             "there must be at least one", "Ask for 1 or more."));
  }
  Hub hub(ranks);
  std::vector<std::jthread> threads;
  const auto start = [&](int rank, auto&& run) {
    try {
      threads.emplace_back(run);
    } catch (const std::system_error&) {
      const Lock lock(hub.mutex);
      hub.fail(rank, std::make_exception_ptr(DeviceError(
                         message(concat("cannot start a thread for rank ", rank),
                                 "the system allows no more", "Use fewer ranks in a process."))));
      if (rank > 0) hub.end(rank);
    }
  };
  if (give_up) {
    constexpr double kGraceSeconds = 10;
    const double grace =
        timeout_seconds > 0 ? std::min(timeout_seconds, kGraceSeconds) : kGraceSeconds;
    start(0, [&hub, &give_up, grace] {
      if (const auto error = hub.outlasting_failure(nanoseconds(grace))) give_up(error);
    });
  }
  for (int rank = 1; rank < ranks; ++rank)
    start(rank, [&, rank] { run_rank(hub, rank, timeout_seconds, body); });
  run_rank(hub, 0, timeout_seconds, body);
  threads.clear();
  const Lock lock(hub.mutex);
  if (hub.has_failed()) hub.rethrow();
}

}  // namespace ringbolt
