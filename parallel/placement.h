// The placement over ranks: tokens by the layout, attention over the mesh, sums over all ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/model/placement.h"
#include "parallel/distributed_attention.h"
#include "parallel/layout.h"
#include "parallel/mesh.h"

namespace ringbolt {

class MeshPlacement final : public Placement {
 public:
  /// Backend and mesh must outlive it.
  MeshPlacement(Backend& backend, Mesh& mesh, LayoutKind kind, const AttentionChoice& choice,
                const Visibility& visibility = {})
      : backend_(backend), mesh_(mesh), kind_(kind), choice_(choice), visibility_(visibility) {}

  /// Of the ring position's tokens head rank u holds the u-th part. Collective over the mesh's
  /// sequence ranks, which must give the same offsets.
  const PlacedTokens& place(std::span<const int64_t> offsets) override;
  int data_ranks() const override { return mesh_.shape().data; }
  int data_rank() const override { return mesh_.data_rank(); }
  void sum(std::span<LossSum> sums) override;

 private:
  Backend& backend_;
  Mesh& mesh_;
  LayoutKind kind_;
  AttentionChoice choice_;
  Visibility visibility_;
  std::vector<int64_t> offsets_;
  std::optional<SequenceLayout> layout_;
  std::unique_ptr<Attention> attention_;
  PlacedTokens placed_;
};

/// All tokens on this device where the mesh has one rank, else over its ranks.
std::unique_ptr<Placement> make_placement(Backend& backend, Mesh& mesh, LayoutKind kind,
                                          const AttentionChoice& choice,
                                          const Visibility& visibility = {});

}  // namespace ringbolt
