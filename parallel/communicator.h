// Messages between ranks.
//
// One rank a device; `single` is the communicator of one rank. Buffers are host memory. Every call but rank(), size() and
// send_receive() is collective: all ranks of the communicator call it, in the same order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>

namespace ringbolt {

/// An exchange under way. Its buffers belong to the communicator until it is waited for, which the destructor does.
class [[nodiscard]] Request {
 public:
  Request() = default;
  explicit Request(std::function<void()> finish) : finish_(std::move(finish)) {}
  Request(Request&& other) noexcept : finish_(std::exchange(other.finish_, nullptr)) {}
  Request& operator=(Request&& other) noexcept {
    wait();
    finish_ = std::exchange(other.finish_, nullptr);
    return *this;
  }
  ~Request() { wait(); }
  void wait() {
    if (auto finish = std::exchange(finish_, nullptr)) finish();
  }

 private:
  std::function<void()> finish_;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Sends to one rank while receiving from another; both may be this one.
  virtual Request send_receive(std::span<const std::byte> send, int to, std::span<std::byte> receive, int from) = 0;
  /// In place: the sum over ranks, in rank order.
  virtual void all_reduce(std::span<float> values) = 0;
  virtual void all_reduce(std::span<double> values) = 0;
  virtual void all_reduce(std::span<int64_t> values) = 0;
  /// gathered holds size() pieces of piece.size() bytes, in rank order.
  virtual void all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) = 0;
  /// piece = this rank's part of the sum of `values`, which holds size() pieces.
  virtual void reduce_scatter(std::span<const float> values, std::span<float> piece) = 0;
  /// Piece r of `send` goes to rank r; piece r of `receive` came from it.
  virtual void all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) = 0;
  virtual void broadcast(std::span<std::byte> bytes, int root) = 0;
  virtual void barrier() = 0;
  /// Ranks of one colour form a communicator, ordered by key.
  virtual std::unique_ptr<Communicator> split(int colour, int key) = 0;
};

/// The communicator of a run on one rank: no messages, no copies but to itself.
std::unique_ptr<Communicator> make_single_communicator();

}  // namespace ringbolt
