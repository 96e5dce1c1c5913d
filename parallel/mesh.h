// How the ranks of a run are arranged: data x ring x head.
//
// Ranks of one sequence are neighbours: rank = (data * ring + ring rank) * head + head rank, with
// ring rank = outer * inner size + inner rank. Ranks that differ only in the head rank exchange
// most (all-to-all), so they are closest; the inner ring stays within a node where it can.
#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace ringbolt {

struct MeshShape {
  int data = 1;
  int outer = 1;  ///< ring positions between nodes (double ring); 1: a single ring
  int inner = 1;  ///< ring positions
  int head = 1;   ///< ranks that share a ring position and divide the heads

  int ring() const { return outer * inner; }
  int sequence() const { return ring() * head; }
  int world() const { return data * sequence(); }
};

/// The communicators of each axis. Collective to make.
class Mesh {
 public:
  /// For tensors in host memory. Throws: UsageError where the shape does not have world.size()
  /// ranks.
  Mesh(Communicator& world, MeshShape shape) : Mesh(world, world, shape) {}
  /// For the tensors that `devices`, the same ranks, exchanges: of a GPU's memory
  /// (parallel/device_communicator.h, parallel/nccl.h) or the host's. Both must outlive the mesh.
  Mesh(Communicator& world, Communicator& devices, MeshShape shape);

  const MeshShape& shape() const { return shape_; }
  int data_rank() const { return data_rank_; }
  int ring_rank() const { return ring_rank_; }
  int head_rank() const { return head_rank_; }

  // Of host memory:
  Communicator& world() { return world_; }
  Communicator& sequence() { return *sequence_; }  ///< all ranks of this sequence
  // Of tensors:
  Communicator& ring() { return *ring_; }  ///< all ring positions, same head rank
  Communicator& inner() { return *inner_; }
  Communicator& outer() { return *outer_; }
  Communicator& head() { return *head_; }

 private:
  Communicator& world_;
  MeshShape shape_;
  int data_rank_;
  int ring_rank_;
  int head_rank_;
  std::unique_ptr<Communicator> sequence_, ring_, inner_, outer_, head_;
};

}  // namespace ringbolt
