// The streams of a device that does nothing until it must: what tests/support/lazy_device.h and the
// stand-in for CUDA's runtime (tests/parallel/fake_cuda.cpp) are made of.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/backend/transfers.h"
#include "core/base/error.h"
#include "core/base/random.h"

namespace ringbolt::testing_support {

/// Under the device's mutex.
struct LazyEvent {
  bool done = false;
};

inline std::shared_ptr<LazyEvent> event_of(const Mark& mark) {
  return *static_cast<std::shared_ptr<LazyEvent>*>(mark.event());
}
inline Mark mark_of(const std::shared_ptr<LazyEvent>& event) {
  return Mark(std::make_shared<std::shared_ptr<LazyEvent>>(event));
}

struct LazyItem {
  std::function<void()> run;  ///< none: waits for `until`
  std::shared_ptr<LazyEvent> until;
  int64_t number = 0;  ///< in the order in which the host gave them
};
struct LazyStream {
  std::deque<LazyItem> items;
};

class LazyDevice {
 public:
  using Item = LazyItem;
  using Stream = LazyStream;

  explicit LazyDevice(uint64_t seed) : random_(seed) {}

  void add(Stream* stream) {
    const std::lock_guard lock(mutex_);
    streams_.push_back(stream);
  }
  void remove(Stream* stream) {
    const std::lock_guard lock(mutex_);
    std::erase(streams_, stream);
  }
  void give(Stream& stream, Item item) {
    const std::lock_guard lock(mutex_);
    item.number = given_++;
    stream.items.push_back(std::move(item));
    changed_.notify_all();
  }
  Mark record(Stream& stream) {
    auto event = std::make_shared<LazyEvent>();
    give(stream, {.run = [event] { event->done = true; }, .until = nullptr});
    return mark_of(event);
  }
  void wait_in(Stream& stream, const Mark& mark) {
    if (!mark.empty()) give(stream, {.run = {}, .until = event_of(mark)});
  }

  /// Runs whatever may run until the mark is done.
  void run_until(const Mark& mark) {
    if (mark.empty()) return;
    const std::shared_ptr<LazyEvent> event = event_of(mark);
    std::unique_lock lock(mutex_);
    while (!event->done) {
      if (step()) continue;
      // Another thread may still give what is waited for.
      if (changed_.wait_for(lock, std::chrono::seconds(60)) == std::cv_status::timeout)
        throw DeviceError(
            "the streams of the device wait for each other (a mark that never comes)");
    }
  }
  /// Marks as done what no stream records: an abort.
  void finish(const std::vector<std::shared_ptr<LazyEvent>>& events) {
    const std::lock_guard lock(mutex_);
    for (const auto& event : events) event->done = true;
    changed_.notify_all();
  }
  bool is_done(const Mark& mark) {
    if (mark.empty()) return true;
    const std::lock_guard lock(mutex_);
    for (uint64_t steps = draw() % 4; steps > 0; --steps) step();
    return event_of(mark)->done;
  }
  int64_t disorder() const {
    const std::lock_guard lock(mutex_);
    return disorder_;
  }

 private:
  uint64_t draw() { return random_.bits(drawn_++); }
  static bool is_held(const Item& item) { return !item.run && !item.until->done; }

  /// One item of a stream that may go on; false where there is none.
  bool step() {
    std::vector<Stream*> ready;
    int64_t oldest = given_;
    for (Stream* stream : streams_) {
      if (stream->items.empty()) continue;
      oldest = std::min(oldest, stream->items.front().number);
      if (!is_held(stream->items.front())) ready.push_back(stream);
    }
    if (ready.empty()) return false;
    Stream& chosen = *ready[static_cast<size_t>(draw() % ready.size())];
    const Item item = std::move(chosen.items.front());
    chosen.items.pop_front();
    if (item.number > oldest) ++disorder_;
    if (item.run) item.run();
    changed_.notify_all();
    return true;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Stream*> streams_;
  Philox random_;
  uint64_t drawn_ = 0;
  int64_t given_ = 0;
  int64_t disorder_ = 0;
};

}  // namespace ringbolt::testing_support
