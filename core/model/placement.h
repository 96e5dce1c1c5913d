// Who holds which tokens of a micro-batch: training and evaluation are written once, for one rank
// and for many.
//
// On one rank every token is mine and attention runs over the whole buffer. `parallel/` has the
// placement over ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/backend/backend.h"
#include "core/backend/visibility.h"
#include "core/model/attention.h"
#include "core/model/transformer.h"

namespace ringbolt {

/// My part of a micro-batch of documents.
struct PlacedTokens {
  std::vector<int64_t> tokens;     ///< (T): index into the micro-batch's buffer; -1 is padding (its
                                   ///< target is not counted)
  std::vector<int64_t> positions;  ///< (T): position in the document; 0 for padding
  Attention* attention = nullptr;  ///< over all documents, block-diagonal and causal

  /// My elements (T) of one per token of the micro-batch; `padding` where there is none.
  std::vector<int32_t> pick(std::span<const int32_t> all, int32_t padding) const;
};

class Placement {
 public:
  virtual ~Placement() = default;

  /// Documents [offsets[d], offsets[d+1]) of one buffer. Holds until the next call with other
  /// offsets. Collective.
  virtual const PlacedTokens& place(std::span<const int64_t> offsets) = 0;
  /// Groups of ranks that work on different sequences, and which of them this is.
  virtual int data_ranks() const = 0;
  virtual int data_rank() const = 0;
  /// In place: the sums over all ranks. Collective.
  virtual void sum(std::span<LossSum> sums) = 0;
};

/// All tokens on this device.
class WholePlacement final : public Placement {
 public:
  explicit WholePlacement(Backend& backend, const Visibility& visibility = {},
                          AttentionDType dtype = AttentionDType::model)
      : backend_(backend), visibility_(visibility), dtype_(dtype) {}

  const PlacedTokens& place(std::span<const int64_t> offsets) override;
  int data_ranks() const override { return 1; }
  int data_rank() const override { return 0; }
  void sum(std::span<LossSum>) override {}

 private:
  Backend& backend_;
  Visibility visibility_;
  AttentionDType dtype_;
  std::vector<int64_t> offsets_;
  std::unique_ptr<WholeSequenceAttention> attention_;
  PlacedTokens placed_;
};

}  // namespace ringbolt
