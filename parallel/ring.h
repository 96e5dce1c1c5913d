// The ring exchange as a primitive: what rotates, what is in flight when, and nothing of attention.
//
//   visit       a block of every rank visits every rank
//   accumulate  the same, and a sum follows each block: what all ranks add to it ends at its owner
//
// Both nest: the body of an outer ring may run a whole inner one, whose block is the one at hand;
// the outer transfer then has an inner ring's time to finish (double ring, LoongTrain, arXiv
// 2406.18485, section 4.3). A ring of one only runs the body.
//
// Blocks are tensors of the backend, of one size on all ranks; the ring's communicator is one of
// such memory. On the CPU operations are done when they return, transfers when they were waited
// for, and the backend drives them between its tiles. On a device both are only given to its
// streams, in this order: a transfer begins behind what the compute stream was given before it was
// posted, runs beside what that is given next, and what follows the wait runs behind it. The host
// waits until the neighbours have posted theirs (and, between processes, for the bytes), never for
// the device's computation; nothing in a step synchronises a device.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "core/backend/backend.h"
#include "parallel/communicator.h"

namespace ringbolt {

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

inline ConstBytes bytes_of(ConstView x) {
  return {x.bytes(), static_cast<size_t>(x.bytes_needed())};
}
inline Bytes bytes_of(View x) { return {x.bytes(), static_cast<size_t>(x.bytes_needed())}; }

/// Exchanges that are under way while the backend computes: driven between its tiles. One at a time
/// for a backend.
class Overlap {
 public:
  explicit Overlap(Backend& backend) : backend_(backend) {
    backend_.set_progress([this] {
      for (Request* request : under_way_) request->test();
    });
  }
  Overlap(const Overlap&) = delete;
  Overlap& operator=(const Overlap&) = delete;
  ~Overlap() { backend_.set_progress({}); }

  /// Drives `request` until the end of the scope; scopes nest. The request may be empty, complete
  /// or replaced meanwhile.
  class Scope {
   public:
    Scope(Overlap& overlap, Request& request) : overlap_(overlap) {
      overlap_.under_way_.push_back(&request);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { overlap_.under_way_.pop_back(); }

   private:
    Overlap& overlap_;
  };

 private:
  Backend& backend_;
  std::vector<Request*> under_way_;
};

/// Two blocks: one in use and on its way to the next rank, one that arrives. Nothing for a ring of
/// one.
class BlockBuffers {
 public:
  BlockBuffers(Backend& backend, const Communicator& ring, DType dtype, Shape shape) {
    if (ring.size() == 1) return;
    for (Tensor& block : blocks_) block = backend.allocate(dtype, shape);
  }
  Bytes operator[](int step) { return bytes_of(blocks_[static_cast<size_t>(step % 2)].view()); }

 private:
  std::array<Tensor, 2> blocks_;
};

/// Three f32 sums: what was computed last and leaves, what is computed, what arrives. Nothing for a
/// ring of one.
class SumBuffers {
 public:
  SumBuffers(Backend& backend, const Communicator& ring, Shape shape) {
    if (ring.size() == 1) return;
    for (Tensor& sum : sums_) sum = backend.allocate(DType::f32, shape);
  }
  View computed(int step) { return sums_[static_cast<size_t>(step % 2)]; }
  View arrived() { return sums_[2]; }

 private:
  std::array<Tensor, 3> sums_;
};

/// The rank whose block is at hand in step `step` of a ring.
inline int block_owner(const Communicator& ring, int step) {
  return (ring.rank() - step + ring.size()) % ring.size();
}

/// Calls body(step, owner, block) for the block of every rank, this one's first.
/// - `own` is used where it lies, and sent from there.
/// - The next block is on its way before the body runs, and is waited for after it. The body may
/// compute on `block` only.
/// - The last step sends nothing: size - 1 messages.
/// - A body that has nothing to do for a block returns; the block goes on all the same.
/// Collective: every rank of `ring`, with blocks of one size.
template <class Body>
void ring_visit(Communicator& ring, Overlap& overlap, ConstBytes own, BlockBuffers& buffers,
                const Body& body) {
  const int size = ring.size();
  const int next = (ring.rank() + 1) % size;
  const int previous = (ring.rank() + size - 1) % size;
  ConstBytes block = own;
  for (int step = 0; step < size; ++step) {
    Request arriving;
    const Overlap::Scope scope(overlap, arriving);
    if (step + 1 < size)
      arriving = ring.send_receive(block, next, buffers[step], previous, Tag::ring_operand);
    body(step, block_owner(ring, step), block);
    arriving.wait();
    block = buffers[step];
  }
}

/// As ring_visit; contribute(owner, block, sum) adds this rank's share to `sum` (f32), which holds
/// zeros, and `home` (overwritten) ends as the sum over all ranks of their shares for this rank's
/// block.
/// - The share for one's own block goes to `home` and never travels. What contribute leaves of it,
///   finish(own, home) adds at the end: work that needs no other rank, beside the last sum.
/// - The sum lags its block by a step: while a rank computes its share, the sum of those before it
///   is on its way. Then both are added and passed on: size - 1 messages.
/// - The order of the additions is that of the ring from the block's owner on: the same bits every
///   time.
/// Collective: every rank of `ring`.
template <class Contribute, class Finish>
void ring_accumulate(Communicator& ring, Overlap& overlap, Backend& backend, ConstBytes own,
                     BlockBuffers& buffers, View home, SumBuffers& sums,
                     const Contribute& contribute, const Finish& finish) {
  const int size = ring.size();
  const int next = (ring.rank() + 1) % size;
  const int previous = (ring.rank() + size - 1) % size;
  Request arriving;
  const Overlap::Scope scope(overlap, arriving);
  ring_visit(ring, overlap, own, buffers, [&](int step, int owner, ConstBytes block) {
    const View sum = step == 0 ? home : sums.computed(step);
    backend.fill_zero(sum);
    contribute(owner, block, sum);
    if (step == 0) return;
    if (step > 1) {
      arriving.wait();
      backend.add(sums.arrived(), sum);
    }
    arriving = ring.send_receive(bytes_of(ConstView(sum)), next, bytes_of(sums.arrived()), previous,
                                 Tag::ring_sum);
  });
  finish(own, home);
  if (size == 1) return;
  arriving.wait();
  backend.add(sums.arrived(), home);
}

}  // namespace ringbolt
