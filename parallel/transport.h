// What carries messages between the ranks of a run: the part in which `threads` and `mpi` differ.
//
// A transport belongs to one rank and its thread. Ranks here are those of the world; a channel is
// the message space of one communicator. Messages of one (channel, tag, source, destination) arrive
// in the order they were sent; others do not mix with them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "parallel/communicator.h"

namespace ringbolt {

class Transport {
 public:
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  struct Exchange {
    int64_t channel = 0;
    Tag tag = Tag::barrier;
    int to = -1;  ///< -1: sends nothing, and no message either
    std::span<const std::byte> send;
    int from = -1;  ///< -1: receives nothing
    std::span<std::byte> receive;
    Transfers* device = nullptr;  ///< whose memory the buffers are; none: host memory
  };
  /// Posts without blocking. Traffic is counted when the exchange is seen complete.
  virtual Request post(const Exchange& exchange) = 0;

  /// Makes every later call of this rank throw the same. Throws: CommError.
  [[noreturn]] virtual void fail(const std::string& what) = 0;
  /// The watchdog's words: this rank waited for `peer` in vain.
  std::string timeout_message(const Exchange& exchange, int peer) const;

  RankContext& context() { return context_; }
  /// A channel above all that this rank has used or agreed on.
  int64_t next_channel() const { return next_channel_; }
  void use_channel(int64_t channel) { next_channel_ = channel + 1; }

 protected:
  /// Counts what has come: messages to oneself are no traffic.
  void count(const Exchange& exchange);
  /// "the all-gather of step 12".
  std::string name_of(const Exchange& exchange) const;

 private:
  RankContext context_;
  int64_t next_channel_ = 1;
};

}  // namespace ringbolt
