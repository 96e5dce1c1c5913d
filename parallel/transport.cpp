#include "parallel/transport.h"

#include "core/base/error.h"

namespace ringbolt {

void Transport::count(const Exchange& exchange) {
  if (exchange.from < 0 || exchange.from == rank()) return;
  context_.traffic.received_bytes += static_cast<int64_t>(exchange.receive.size());
  context_.traffic.messages += 1;
}

std::string Transport::name_of(const Exchange& exchange) const {
  const std::string name = ringbolt::name_of(exchange.tag);
  return context_.step > 0 ? concat(name, " of step ", context_.step) : name;
}

std::string Transport::timeout_message(const Exchange& exchange, int peer) const {
  return ringbolt::timeout_message(rank(), concat("rank ", peer), exchange.tag, context_);
}

}  // namespace ringbolt
