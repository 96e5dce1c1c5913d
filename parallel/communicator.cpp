#include "parallel/communicator.h"

#include <algorithm>
#include <exception>
#include <vector>

#include "core/base/error.h"

namespace ringbolt {
namespace {

template <class T>
void largest_of_ranks(Communicator& ranks, std::span<T> values) {
  std::vector<T> all(values.size() * static_cast<size_t>(ranks.size()));
  std::copy(values.begin(), values.end(),
            all.begin() + static_cast<std::ptrdiff_t>(values.size()) * ranks.rank());
  ranks.all_reduce(std::span(all));  // sums of one rank's value and zeros
  for (size_t i = 0; i < all.size(); ++i) {
    T& value = values[i % values.size()];
    value = std::max(value, all[i]);
  }
}

}  // namespace

std::string name_of(Tag tag) {
  switch (tag) {
    case Tag::all_reduce:
      return "the all-reduce";
    case Tag::all_gather:
      return "the all-gather";
    case Tag::reduce_scatter:
      return "the reduce-scatter";
    case Tag::all_to_all:
      return "the all-to-all";
    case Tag::broadcast:
      return "the broadcast";
    case Tag::barrier:
      return "the barrier";
    case Tag::split:
      return "the split into groups";
    case Tag::ring_operand:
      return "the ring's block";
    case Tag::ring_sum:
      return "the ring's sum";
    case Tag::count_:
      break;
  }
  return "a message";
}

std::string timeout_message(int rank, const std::string& peers, Tag tag,
                            const RankContext& context) {
  const std::string step = context.step > 0 ? concat(" of step ", context.step) : "";
  return message(concat("rank ", rank, " waited ", context.timeout_seconds, " s for ", peers,
                        " in ", name_of(tag), step),
                 concat(peers, " hangs, was stopped, or is far behind"),
                 "Look at what that rank does; give --watchdog-seconds more if it is only slow.");
}

void all_reduce_largest(Communicator& ranks, std::span<double> values) {
  largest_of_ranks(ranks, values);
}
void all_reduce_largest(Communicator& ranks, std::span<int64_t> values) {
  largest_of_ranks(ranks, values);
}

Request& Request::operator=(Request&& other) noexcept {
  std::swap(pending_, other.pending_);
  std::swap(exceptions_, other.exceptions_);
  const Request previous(std::move(other));
  return *this;
}

Request::~Request() {
  if (pending_ != nullptr && std::uncaught_exceptions() > exceptions_) {
    pending_->abandon();
    return;
  }
  try {
    wait();
  } catch (const std::exception&) {
    // The communicator keeps the error; this exchange is over either way.
    static_cast<void>(0);
  }
}

}  // namespace ringbolt
