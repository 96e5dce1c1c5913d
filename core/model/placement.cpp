#include "core/model/placement.h"

#include <algorithm>

namespace ringbolt {

std::vector<int32_t> PlacedTokens::pick(std::span<const int32_t> all, int32_t padding) const {
  std::vector<int32_t> mine;
  mine.reserve(tokens.size());
  for (const int64_t token : tokens)
    mine.push_back(token < 0 ? padding : all[static_cast<size_t>(token)]);
  return mine;
}

const PlacedTokens& WholePlacement::place(std::span<const int64_t> offsets) {
  if (attention_ != nullptr &&
      std::equal(offsets.begin(), offsets.end(), offsets_.begin(), offsets_.end())) {
    return placed_;
  }
  offsets_.assign(offsets.begin(), offsets.end());
  attention_ = std::make_unique<WholeSequenceAttention>(
      backend_, visible_slices(offsets, visibility_), dtype_);
  placed_ = PlacedTokens{{}, {}, attention_.get()};
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    for (int64_t t = offsets[d]; t < offsets[d + 1]; ++t) {
      placed_.tokens.push_back(t);
      placed_.positions.push_back(t - offsets[d]);
    }
  }
  return placed_;
}

}  // namespace ringbolt
