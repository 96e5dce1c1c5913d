// An exchange of device memory over a transport that moves host memory: through pinned buffers, in
// pieces.
//
// Each direction has two buffers of a piece: while one is on its way between the ranks, the other
// is on its way between device and host. Copies run on the transfer stream, so that the compute
// stream goes on; the host drives the rest in test() and wait(), of every exchange that is under
// way on its transport. Pieces of one (channel, tag, peer) leave and come in the order of the
// exchanges.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "parallel/transport.h"

namespace ringbolt {

class StagedExchange;

/// Of one transport: what is under way, and pinned buffers of a piece each, kept for the next one.
class StagingArea {
 public:
  /// Of a piece: long enough that neither link nor copy engine sees its end, short enough that the
  /// first piece is soon on its way.
  static constexpr size_t kPieceBytes = size_t{4} << 20;

  struct Buffer {
    std::shared_ptr<std::byte> memory;
    Mark free;  ///< behind the last copy from or to it
  };
  /// One whose last copy is done; of the device's own host memory. `bytes` at most a piece.
  Buffer take(Transfers& device);
  void give_back(Buffer buffer) { free_.push_back(std::move(buffer)); }

  /// All exchanges under way move on, oldest first. Throws: CommError, DeviceError.
  void drive();
  int64_t allocated_bytes() const { return allocated_; }

 private:
  friend class StagedExchange;
  std::deque<Buffer> free_;
  std::vector<StagedExchange*> under_way_;
  int64_t allocated_ = 0;
};

class StagedExchange final : public Request::Pending {
 public:
  /// `exchange.device` is not nullptr. Transport and area must outlive it.
  StagedExchange(Transport& transport, StagingArea& area, const Transport::Exchange& exchange);
  ~StagedExchange() override;
  StagedExchange(const StagedExchange&) = delete;
  StagedExchange& operator=(const StagedExchange&) = delete;

  bool test() override;
  void wait() override;
  void abandon() noexcept override;

 private:
  friend class StagingArea;
  /// One piece's way, in either direction.
  struct Piece {
    enum class State { copying_out, travelling };
    State state;
    size_t first;
    size_t bytes;
    StagingArea::Buffer buffer;
    Request message;
  };
  /// One direction's pieces that are under way, in order.
  struct Direction {
    size_t bytes = 0;
    size_t begun = 0;  ///< bytes whose piece is under way, or done
    bool all_begun = true;
    std::deque<Piece> pieces;
    bool done() const { return all_begun && pieces.empty(); }
  };

  void move_on();
  void begin_pieces(Direction& direction, bool sends);
  void move_sends();
  void move_receives();
  bool is_copying_out() const;
  bool done() const { return sending_.done() && receiving_.done(); }
  /// Whether an earlier exchange has pieces of the same stream of messages yet to post.
  bool must_queue(bool sends) const;
  Transport::Exchange message_of(const Piece& piece, bool sends) const;
  void complete();
  Piece begin_piece(Direction& direction, bool sends);

  Transport& transport_;
  StagingArea& area_;
  Transport::Exchange exchange_;
  Direction sending_;
  Direction receiving_;
  int64_t moves_ = 0;  ///< that something has moved
  Mark arrived_;       ///< behind the last copy to the device
  bool completed_ = false;
};

}  // namespace ringbolt
