#include "core/tensor/tensor.h"

namespace ringbolt {

template <bool kConst>
BasicView<kConst> BasicView<kConst>::slice_columns(int64_t begin, int64_t end) const {
  RINGBOLT_CHECK(shape_.rank() >= 2 && 0 <= begin && begin <= end && end <= shape_[1]);
  int64_t column = 1;  // elements of one index of the second dimension
  for (int i = 2; i < shape_.rank(); ++i) column *= shape_[i];
  Shape shape;
  switch (shape_.rank()) {
    case 2:
      shape = {shape_[0], end - begin};
      break;
    case 3:
      shape = {shape_[0], end - begin, shape_[2]};
      break;
    default:
      shape = {shape_[0], end - begin, shape_[2], shape_[3]};
      break;
  }
  return {bytes_ + begin * column * size_of(dtype_), dtype_, shape, row_stride_};
}

template class BasicView<false>;
template class BasicView<true>;

}  // namespace ringbolt
