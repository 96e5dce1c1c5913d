#include "parallel/thread_hub.h"

#include <algorithm>

#include "core/base/error.h"

namespace ringbolt::threads {

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
  if ((from.device == nullptr) != (to.device == nullptr)) {
    throw CommError(message(
        concat("rank ", (from.device == nullptr ? from : to).owner, " gave host memory and rank ",
               (from.device == nullptr ? to : from).owner, " device memory to one message"),
        "both sides must keep it in the same kind", "This is a defect of Ringbolt."));
  }
  if (from.device != nullptr) {
    copy_on_device(side, from, to);
    return finish(side, other);
  }
  side.copying = other.copying = true;
  lock.unlock();
  std::copy_n(from.data, from.bytes, to.data);
  lock.lock();
  side.copying = other.copying = false;
  finish(side, other);
}

void Hub::copy_on_device(Side& mine, const Side& from, const Side& to) {
  Transfers& transfers = *mine.device;
  transfers.transfer_after(from.ready);
  transfers.transfer_after(to.ready);
  transfers.copy(from.data, to.data, from.bytes, Transfers::Way::within_device);
  mine.copied = transfers.transferred();
}

void Hub::finish(Side& side, Side& other) {
  other.copied = side.copied;
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

}  // namespace ringbolt::threads
