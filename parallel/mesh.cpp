#include "parallel/mesh.h"

#include "core/base/error.h"

namespace ringbolt {

Mesh::Mesh(Communicator& world, Communicator& devices, MeshShape shape)
    : world_(world), shape_(shape) {
  if (shape.data < 1 || shape.outer < 1 || shape.inner < 1 || shape.head < 1 ||
      shape.world() != world.size()) {
    throw UsageError(
        message(concat("the ranks cannot be arranged as ", shape.data, " data x ", shape.outer,
                       " outer x ", shape.inner, " inner ring x ", shape.head, " head"),
                concat("that takes ", shape.world(), " ranks and there are ", world.size()),
                "Start as many ranks as the product, or change the shape."));
  }
  const int rank = world.rank();
  head_rank_ = rank % shape.head;
  ring_rank_ = rank / shape.head % shape.ring();
  data_rank_ = rank / shape.sequence();
  sequence_ = world.split(data_rank_, rank);
  // By the number of the axis' group among all of its kind.
  ring_ = devices.split(data_rank_ * shape.head + head_rank_, ring_rank_);
  inner_ = ring_->split(ring_rank_ / shape.inner, ring_rank_);
  outer_ = ring_->split(ring_rank_ % shape.inner, ring_rank_);
  head_ = devices.split(data_rank_ * shape.ring() + ring_rank_, head_rank_);
}

}  // namespace ringbolt
