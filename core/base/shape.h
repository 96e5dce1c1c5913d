// Shapes, and the alphabet that every comment on shapes uses.
//
//   B  sequences a micro-batch      S  tokens of the whole sequence     T  tokens held here (all of
//   them on one rank) H  query heads                  K  key/value heads                  D
//   dimension of a head E  hidden (model) dimension     F  feed-forward dimension           V
//   vocabulary        L  layers
//
// (T, E) means T rows of E contiguous elements. Sizes, offsets and positions are 64-bit everywhere.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace ringbolt {

/// Up to four dimensions, outermost first.
class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  /// Elements of one row, that is of everything but the first dimension. 1 for rank 0 and 1.
  int64_t row_elements() const;
  int64_t elements() const;
  /// The same shape with another first dimension. Requires: rank >= 1.
  Shape with_rows(int64_t rows) const;
  std::string str() const;  ///< "(T, H, D)" with the numbers

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace ringbolt
