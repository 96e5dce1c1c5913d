// Messages between ranks.
//
// `single` is the communicator of one rank, `threads` has ranks in one process, `mpi` in many:
// their buffers are host memory. For tensors of a device there are make_device_communicator
// (parallel/device_communicator.h) and make_nccl_communicator (parallel/nccl.h), made from one of
// those: what they move is device memory, ordered on the backend's compute stream as one of its
// operations is, but scalars and small facts (all_reduce of double and int64_t, broadcast) stay
// host memory. Every call but rank(), size(), context() and the sends and receives is collective:
// all ranks of the communicator call it, in the same order. Any call throws CommError where another
// rank failed, or where nothing came for context().timeout_seconds; the message names operation,
// peer and step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "core/backend/transfers.h"

namespace ringbolt {

/// What a message is for. Messages of one tag and communicator between two ranks arrive in the
/// order they were sent.
enum class Tag : int {
  all_reduce,  ///< the collectives use a tag each, so that a wait that fails says in which
  all_gather,
  reduce_scatter,
  all_to_all,
  broadcast,
  barrier,
  split,
  ring_operand,  ///< a block that visits every rank: keys and values, or the query side
  ring_sum,      ///< the sum that follows a block
  count_,        ///< how many there are
};

/// "the all-gather": for messages about a wait that failed.
std::string name_of(Tag tag);

/// What a rank has moved and waited for, over all its communicators.
struct Traffic {
  int64_t received_bytes =
      0;  ///< payload from other ranks, as much as was sent to them in every symmetric operation
  int64_t messages = 0;  ///< received
  /// Inside wait() and collectives: what no computation hid. Of device memory it is what the
  /// compute stream stood still, by the device's clock, as far as that is known.
  double waited_seconds = 0;
};

/// One a rank, shared by all its communicators; only the rank's own thread touches it.
struct RankContext {
  Traffic traffic;
  int64_t step = 0;              ///< of training, for messages; 0: none
  double timeout_seconds = 600;  ///< the longest wait for another rank; 0: no limit
};

/// The watchdog's words: rank `rank` waited for `peers` ("rank 3") in vain.
std::string timeout_message(int rank, const std::string& peers, Tag tag,
                            const RankContext& context);

/// An exchange under way. Its buffers belong to the communicator until it is complete. Of device
/// memory that means: what the compute stream is given after the exchange was seen complete runs
/// after the transfers; the host does not wait for them.
class [[nodiscard]] Request {
 public:
  class Pending {
   public:
    virtual ~Pending() = default;
    /// Drives the exchange without blocking; true when both directions are complete. Throws:
    /// CommError.
    virtual bool test() = 0;
    /// Blocks until then. Throws: CommError.
    virtual void wait() = 0;
    /// Called instead of wait() where the stack unwinds from an error: the peer may never come.
    /// Makes the communicator fail on all ranks, so that none waits for this one.
    virtual void abandon() noexcept {}
  };

  Request() = default;
  explicit Request(std::unique_ptr<Pending> pending)
      : pending_(std::move(pending)), exceptions_(std::uncaught_exceptions()) {}
  Request(Request&&) noexcept = default;
  /// Waits for what it held.
  Request& operator=(Request&& other) noexcept;
  /// Waits, unless an error ends the scope; an error of its own is left to the communicator, whose
  /// next call throws it.
  ~Request();

  bool test() { return pending_ == nullptr || pending_->test(); }
  void wait() {
    if (const auto pending = std::exchange(pending_, nullptr)) pending->wait();
  }

 private:
  std::unique_ptr<Pending> pending_;
  int exceptions_ = 0;  ///< in flight when it was made
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual RankContext& context() = 0;
  /// Whether what it does with the memory of a device needs no host, so that it may be part of a
  /// recording (core/backend/recording.h).
  virtual bool can_be_recorded() const { return false; }

  /// Sends to one rank while receiving from another; both may be this one. Sizes may differ between
  /// the two, and must match what the other side expects. Any size: counts above 2^31 are cut into
  /// several messages.
  virtual Request send_receive(std::span<const std::byte> send, int to,
                               std::span<std::byte> receive, int from, Tag tag) = 0;
  /// The same for memory of `device`, which outlives the request. The transfer begins behind what
  /// the compute stream was given before this call; nothing given to it until the request is
  /// complete may write `send` or touch `receive`.
  virtual Request send_receive_on(Transfers& device, std::span<const std::byte> send, int to,
                                  std::span<std::byte> receive, int from, Tag tag) = 0;
  /// In place: the sum over ranks, in rank order, so that all ranks get the same bits (but NCCL's,
  /// which has an order of its own).
  virtual void all_reduce(std::span<float> values) = 0;
  virtual void all_reduce(std::span<double> values) = 0;
  virtual void all_reduce(std::span<int64_t> values) = 0;
  /// gathered holds size() pieces of piece.size() bytes, in rank order; `piece` may be its own
  /// place there.
  virtual void all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) = 0;
  /// piece = this rank's part of the sum of `values` in rank order; values holds size() pieces,
  /// `piece` may be one of them.
  virtual void reduce_scatter(std::span<const float> values, std::span<float> piece) = 0;
  /// Piece r of `send` goes to rank r; piece r of `receive` came from it.
  virtual void all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) = 0;
  virtual void broadcast(std::span<std::byte> bytes, int root) = 0;
  virtual void barrier() = 0;
  /// Ranks of one colour form a communicator, ordered by key.
  virtual std::unique_ptr<Communicator> split(int colour, int key) = 0;
};

/// In place: the largest over ranks, element by element, in host memory whatever the tensors' is.
/// Collective.
void all_reduce_largest(Communicator& ranks, std::span<double> values);
void all_reduce_largest(Communicator& ranks, std::span<int64_t> values);

/// The communicator of a run on one rank: no messages, no copies but to itself.
std::unique_ptr<Communicator> make_single_communicator();

}  // namespace ringbolt
