#include "parallel/threads.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "parallel/pairwise.h"
#include "parallel/transport.h"

namespace ringbolt {
namespace {

using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::mutex>;

std::chrono::nanoseconds nanoseconds(double seconds) {
  constexpr double kYear = 3e7;
  return std::chrono::nanoseconds(static_cast<int64_t>(std::min(seconds, kYear) * 1e9));
}

/// One direction of an exchange, on its rank's side. All under the hub's mutex, but the bytes.
struct Side {
  int owner = -1;
  int peer = -1;
  std::byte* data = nullptr;  ///< a sender's is only read
  size_t bytes = 0;
  bool sends = false;
  bool done = true;
  bool copying = false;     ///< one of the two ranks copies, without the mutex
  Side* matched = nullptr;  ///< the other rank's side, until done
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
  /// Copies what is matched and nobody copies yet; gives the mutex back meanwhile.
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

void Hub::post(const Key& key, Side& side) {
  Unmatched& waiting = unmatched_[key];
  std::deque<Side*>& others = side.sends ? waiting.receives : waiting.sends;
  if (others.empty()) {
    (side.sends ? waiting.sends : waiting.receives).push_back(&side);
    return;
  }
  Side* other = others.front();
  others.pop_front();
  if (waiting.sends.empty() && waiting.receives.empty()) unmatched_.erase(key);
  side.matched = other;
  other->matched = &side;
  wake_[static_cast<size_t>(other->owner)].notify_all();
}

void Hub::withdraw(const Key& key, Side& side, Lock& lock) {
  while (side.copying) sleep(side.owner, lock, Clock::now() + std::chrono::seconds(1));
  if (side.done) return;
  side.done = true;
  if (side.matched != nullptr) {
    side.matched->matched = nullptr;
    return;
  }
  const auto found = unmatched_.find(key);
  if (found == unmatched_.end()) return;
  std::erase(found->second.sends, &side);
  std::erase(found->second.receives, &side);
}

void Hub::progress(Side& side, Lock& lock) {
  if (side.done || side.copying || side.matched == nullptr) return;
  Side& other = *side.matched;
  const Side& from = side.sends ? side : other;
  const Side& to = side.sends ? other : side;
  if (from.bytes != to.bytes) {
    throw CommError(message(concat("rank ", from.owner, " sent ", from.bytes, " bytes and rank ",
                                   to.owner, " expected ", to.bytes),
                            "both sides of a message must agree on its size",
                            "This is a defect of Ringbolt."));
  }
  side.copying = other.copying = true;
  lock.unlock();
  std::copy_n(from.data, from.bytes, to.data);
  lock.lock();
  side.copying = other.copying = false;
  side.done = other.done = true;
  side.matched = other.matched = nullptr;
  wake_[static_cast<size_t>(other.owner)].notify_all();
}

void Hub::fail(int rank, const std::exception_ptr& error) {
  if (has_failed() && failed_rank_ != rank) return;
  failed_rank_ = rank;
  if (first_error_ == nullptr) first_error_ = error;
  wake_all();
}

void Hub::end(int rank) {
  ended_[static_cast<size_t>(rank)] = true;
  wake_all();
}

void Hub::rethrow() const {
  if (first_error_ != nullptr) std::rethrow_exception(first_error_);
  throw CommError(message(concat("rank ", failed_rank_, " left an exchange unfinished"),
                          "an error ended what it did", "This is a defect of Ringbolt."));
}

void Hub::throw_failure(int rank) const {
  if (failed_rank_ == rank) rethrow();
  throw CommError(message(concat("rank ", rank, " was stopped"),
                          concat("rank ", failed_rank_, " failed"), "See that rank's message."));
}

std::exception_ptr Hub::outlasting_failure(std::chrono::nanoseconds grace) {
  Lock lock(mutex);
  const auto all_ended = [this] {
    return std::all_of(ended_.begin(), ended_.end(), [](bool ended) { return ended; });
  };
  changed_.wait(lock, [&] { return all_ended() || has_failed(); });
  if (changed_.wait_for(lock, grace, all_ended)) return nullptr;
  try {
    rethrow();
  } catch (...) {
    return std::current_exception();
  }
}

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(Hub& hub, int rank) : hub_(hub), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return hub_.ranks(); }
  Request post(const Exchange& exchange) override;

 private:
  class Pending;
  Hub& hub_;
  int rank_;
};

class ThreadTransport::Pending final : public Request::Pending {
 public:
  Pending(ThreadTransport& transport, const Exchange& exchange);
  ~Pending() override;
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
  /// The peer's rank for which this one waits.
  int awaited() const { return receive_.done ? send_.peer : receive_.peer; }
  void fail_where_hopeless(Clock::time_point now, Clock::time_point deadline) const;

  ThreadTransport& transport_;
  Exchange exchange_;
  Side send_;
  Side receive_;
  bool counted_ = false;
};

ThreadTransport::Pending::Pending(ThreadTransport& transport, const Exchange& exchange)
    : transport_(transport), exchange_(exchange) {
  const Lock lock(hub().mutex);
  if (hub().has_failed()) hub().throw_failure(transport_.rank_);
  if (exchange.from >= 0) {
    receive_ = {.owner = transport_.rank_,
                .peer = exchange.from,
                .data = exchange.receive.data(),
                .bytes = exchange.receive.size(),
                .done = false};
    hub().post(key(receive_), receive_);
  }
  if (exchange.to >= 0) {
    send_ = {.owner = transport_.rank_,
             .peer = exchange.to,
             .data = const_cast<std::byte*>(exchange.send.data()),
             .bytes = exchange.send.size(),
             .sends = true,
             .done = false};
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

bool ThreadTransport::Pending::test() {
  Lock lock(hub().mutex);
  return progress(lock);
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
  Traffic& traffic = transport_.context().traffic;
  const double limit = transport_.context().timeout_seconds;
  const Clock::time_point start = Clock::now();
  const Clock::time_point deadline =
      limit > 0 ? start + nanoseconds(limit) : Clock::time_point::max();
  Lock lock(hub().mutex);
  while (!progress(lock)) {
    // What the peer is copying will end, however late.
    const bool copying = receive_.copying || send_.copying;
    if (!copying) fail_where_hopeless(Clock::now(), deadline);
    const Clock::time_point later = Clock::now() + std::chrono::hours(1);
    hub().sleep(transport_.rank_, lock, copying ? later : std::min(deadline, later));
  }
  traffic.waited_seconds += std::chrono::duration<double>(Clock::now() - start).count();
}

void ThreadTransport::Pending::abandon() noexcept {
  const Lock lock(hub().mutex);
  // The error that unwinds the stack is not known here; it follows when the rank's body has ended.
  if (!receive_.done || !send_.done) hub().fail(transport_.rank_);
}

Request ThreadTransport::post(const Exchange& exchange) {
  return Request(std::make_unique<Pending>(*this, exchange));
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
