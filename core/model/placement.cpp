#include "core/model/placement.h"

#include <algorithm>

namespace ringbolt {

const PlacedTokens& WholePlacement::place(std::span<const int64_t> offsets) {
  if (attention_ != nullptr && std::equal(offsets.begin(), offsets.end(), offsets_.begin(), offsets_.end())) {
    return placed_;
  }
  offsets_.assign(offsets.begin(), offsets.end());
  attention_ = std::make_unique<WholeSequenceAttention>(backend_, causal_slices(offsets));
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
