// Attention in two parts (Self-Extend, arXiv 2401.01325; ReRoPE): keys nearer than a window are met
// at their true distance, those beyond it at distances that the model was trained on. Queries and
// keys are rotated twice, and the two results are merged by their log-sum-exp.
//
// Each part is an Attention of its own over its range of distances (whole sequence, over ranks, or
// cached), so that whatever is an attention can be the two halves of this one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "core/model/attention.h"
#include "core/model/placement.h"
#include "core/model/rotary_table.h"

namespace ringbolt {

/// For T tokens; query_scale, where there is one, is in `near` and in `far_queries`.
struct TwoPartTables {
  RotaryTable near;
  RotaryTable far_queries;
  RotaryTable far_keys;
};

/// What rope/ says of such a method.
struct TwoPartRotation {
  int64_t window = 0;  ///< the far part begins at this distance
  std::function<TwoPartTables(std::span<const int64_t> positions)> tables;
};

class TwoPartAttention final : public Attention {
 public:
  /// `near` and `far` attend to distances below and from the window; both must outlive it.
  TwoPartAttention(Backend& backend, Attention& near, Attention& far, TwoPartTables tables,
                   RotaryPairing pairing)
      : backend_(backend), near_(near), far_(far), tables_(std::move(tables)), pairing_(pairing) {}

  /// q and kv are not rotated.
  void forward(int64_t layer, ConstView q, ConstView kv, View out, View lse) override;
  /// dq and dkv are gradients of what is not rotated.
  void backward(int64_t layer, ConstView q, ConstView kv, ConstView dout, ConstView out,
                ConstView lse, View dq, View dkv) override;

  /// One side's part of a table.
  struct Turns {
    ConstView cos;
    ConstView sin;
    std::optional<ConstView> scale;
  };

 private:
  /// A contiguous copy of x (T, N, D), its first `heads` heads turned.
  Tensor rotated(ConstView x, int64_t heads, const Turns& turns) const;

  Backend& backend_;
  Attention& near_;
  Attention& far_;
  TwoPartTables tables_;
  RotaryPairing pairing_;
};

/// The same tokens as two placements whose attentions are the parts.
class TwoPartPlacement final : public Placement {
 public:
  /// `near` and `far` place alike; they differ in their range of distances.
  TwoPartPlacement(Backend& backend, RotaryPairing pairing, TwoPartRotation rotation,
                   std::unique_ptr<Placement> near, std::unique_ptr<Placement> far)
      : backend_(backend),
        pairing_(pairing),
        rotation_(std::move(rotation)),
        near_(std::move(near)),
        far_(std::move(far)) {}

  const PlacedTokens& place(std::span<const int64_t> offsets) override;
  int data_ranks() const override { return near_->data_ranks(); }
  int data_rank() const override { return near_->data_rank(); }
  void sum(std::span<LossSum> sums) override { near_->sum(sums); }

 private:
  Backend& backend_;
  RotaryPairing pairing_;
  TwoPartRotation rotation_;
  std::unique_ptr<Placement> near_;
  std::unique_ptr<Placement> far_;
  std::vector<int64_t> offsets_;
  std::unique_ptr<TwoPartAttention> attention_;
  PlacedTokens placed_;
};

}  // namespace ringbolt
