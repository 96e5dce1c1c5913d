#include "parallel/placement.h"

#include <algorithm>

namespace ringbolt {

const PlacedTokens& MeshPlacement::place(std::span<const int64_t> offsets) {
  if (attention_ != nullptr &&
      std::equal(offsets.begin(), offsets.end(), offsets_.begin(), offsets_.end())) {
    return placed_;
  }
  attention_.reset();  // it may refer to the layout
  offsets_.assign(offsets.begin(), offsets.end());
  layout_.emplace(kind_, offsets_, mesh_.shape().ring(), mesh_.shape().head);
  attention_ = make_distributed_attention(backend_, mesh_, *layout_, AttentionSlice::Mask::causal,
                                          choice_, visibility_);
  const int64_t count = layout_->tokens_per_rank() / mesh_.shape().head;
  const auto my_rows = [&](const std::vector<int64_t>& ring_position) {
    const auto first = ring_position.begin() + mesh_.head_rank() * count;
    return std::vector<int64_t>(first, first + count);
  };
  placed_ = {my_rows(layout_->tokens(mesh_.ring_rank())),
             my_rows(layout_->positions(mesh_.ring_rank())), attention_.get()};
  return placed_;
}

void MeshPlacement::sum(std::span<LossSum> sums) {
  // One collective: counts below 2^53 are exact in double.
  std::vector<double> flat;
  for (const LossSum& s : sums) {
    flat.insert(flat.end(), {s.loss, static_cast<double>(s.tokens), static_cast<double>(s.hits)});
  }
  mesh_.world().all_reduce(std::span(flat));
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] = {flat[3 * i], static_cast<int64_t>(flat[3 * i + 1]),
               static_cast<int64_t>(flat[3 * i + 2])};
  }
}

std::unique_ptr<Placement> make_placement(Backend& backend, Mesh& mesh, LayoutKind kind,
                                          const AttentionChoice& choice,
                                          const Visibility& visibility) {
  if (mesh.world().size() == 1)
    return std::make_unique<WholePlacement>(backend, visibility, choice.dtype);
  return std::make_unique<MeshPlacement>(backend, mesh, kind, choice, visibility);
}

}  // namespace ringbolt
