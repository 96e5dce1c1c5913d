// Flat ranges of an array as boxes (hyperslabs).
//
// Shards own ranges of the flat, row-major elements of a tensor, which need not begin or end with a
// row.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/shape.h"

namespace ringbolt {

struct Box {
  std::vector<int64_t> start;  ///< by dimension
  std::vector<int64_t> count;  ///< by dimension
  int64_t offset;              ///< elements from the beginning of the range to this box
};

/// The range [first, first + count) in order: at most three boxes for a matrix (the end of a row,
/// whole rows, the beginning of a row), two more for each further dimension. Requires: the range
/// lies in the array.
std::vector<Box> boxes_of_range(const Shape& shape, int64_t first, int64_t count);

}  // namespace ringbolt
