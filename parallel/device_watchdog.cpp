#include "parallel/device_watchdog.h"

#include <exception>
#include <utility>

namespace ringbolt {

DeviceWatchdog::DeviceWatchdog(Transfers& device, Actions actions, double abort_seconds)
    : device_(device),
      actions_(std::move(actions)),
      abort_seconds_(abort_seconds),
      thread_([this] { run(); }) {}

DeviceWatchdog::~DeviceWatchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void DeviceWatchdog::watch(Watched exchange) {
  const std::lock_guard lock(mutex_);
  watched_.push_back({.exchange = std::move(exchange), .begun = false, .since = {}});
}

std::string DeviceWatchdog::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void DeviceWatchdog::fail(const std::string& what) {
  const std::lock_guard lock(mutex_);
  if (failure_.empty()) failure_ = what;
  changed_.notify_all();
}

void DeviceWatchdog::run() {
  constexpr auto kPeriod = std::chrono::milliseconds(20);
  const std::string unusable = enter();
  std::unique_lock lock(mutex_);
  if (failure_.empty()) failure_ = unusable;
  while (!stopping_ && failure_.empty()) {
    if (changed_.wait_for(lock, kPeriod, [&] { return stopping_ || !failure_.empty(); })) break;
    lock.unlock();
    const std::string found = look(Clock::now());  // may wait for a thread that calls watch()
    lock.lock();
    if (failure_.empty()) failure_ = found;
  }
  if (failure_.empty()) return;
  lock.unlock();
  abort();
}

std::string DeviceWatchdog::enter() {
  try {
    device_.enter_thread();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::string DeviceWatchdog::look(Clock::time_point now) {
  try {
    const std::string error = actions_.poll();
    return error.empty() ? late(now) : error;
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::string DeviceWatchdog::late(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  for (auto entry = watched_.begin(); entry != watched_.end();) {
    const Watched& exchange = entry->exchange;
    if (device_.is_done(exchange.done)) {
      entry = watched_.erase(entry);
      continue;
    }
    if (!entry->begun && device_.is_done(exchange.ready)) {
      entry->begun = true;
      entry->since = now;
    }
    const double seconds = std::chrono::duration<double>(now - entry->since).count();
    if (entry->begun && exchange.timeout_seconds > 0 && seconds > exchange.timeout_seconds)
      return exchange.late;
    ++entry;
  }
  return "";
}

void DeviceWatchdog::abort() {
  struct Progress {
    std::mutex mutex;
    std::condition_variable done;
    bool is_done = false;
  };
  const auto progress = std::make_shared<Progress>();
  std::thread aborting([this, progress, action = actions_.abort] {
    try {
      static_cast<void>(enter());
      action();
    } catch (const std::exception&) {
      static_cast<void>(0);  // the failure is known already
    }
    const std::lock_guard lock(progress->mutex);
    progress->is_done = true;
    progress->done.notify_all();
  });
  {
    std::unique_lock lock(progress->mutex);
    if (!progress->done.wait_for(lock, std::chrono::duration<double>(abort_seconds_),
                                 [&] { return progress->is_done; })) {
      actions_.give_up(failure());
    }
  }
  aborting.join();
}

}  // namespace ringbolt
