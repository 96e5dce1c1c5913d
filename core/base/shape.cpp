#include "core/base/shape.h"

#include "core/base/error.h"

namespace ringbolt {

Shape::Shape(std::initializer_list<int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  RINGBOLT_CHECK(rank_ <= kMaxRank);
  size_t i = 0;
  for (int64_t dim : dims) dims_[i++] = dim;
}

int64_t Shape::row_elements() const {
  int64_t n = 1;
  for (int i = 1; i < rank_; ++i) n *= (*this)[i];
  return n;
}

int64_t Shape::elements() const { return rank_ == 0 ? 1 : (*this)[0] * row_elements(); }

Shape Shape::with_rows(int64_t rows) const {
  RINGBOLT_CHECK(rank_ >= 1);
  Shape other = *this;
  other.dims_[0] = rows;
  return other;
}

std::string Shape::str() const {
  std::ostringstream out;
  out << '(';
  for (int i = 0; i < rank_; ++i) out << (i ? ", " : "") << (*this)[i];
  out << ')';
  return out.str();
}

}  // namespace ringbolt
