#include "parallel/communicator.h"

#include <exception>

namespace ringbolt {

std::string name_of(Tag tag) {
  switch (tag) {
    case Tag::collective:
      return "a collective";
    case Tag::ring_operand:
      return "the ring's block";
    case Tag::ring_sum:
      return "the ring's sum";
  }
  return "a message";
}

Request& Request::operator=(Request&& other) noexcept {
  std::swap(pending_, other.pending_);
  const Request previous(std::move(other));
  return *this;
}

Request::~Request() {
  try {
    wait();
  } catch (const std::exception&) {
    // The communicator keeps the error; this exchange is over either way.
    static_cast<void>(0);
  }
}

}  // namespace ringbolt
