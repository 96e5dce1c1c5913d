// Tensors and views.
//
// A `Tensor` owns device memory and can only be moved. A `View` (writable) or `ConstView`
// (read-only) points into one, never owns, is cheap to copy, and is what every operation takes.
// Rows (the first dimension) may be strided, so that k and v are views into one fused buffer;
// everything inside a row is contiguous.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "core/base/error.h"
#include "core/base/shape.h"
#include "core/tensor/dtype.h"

namespace ringbolt {

template <bool kConst>
class BasicView {
 public:
  using Bytes = std::conditional_t<kConst, const std::byte, std::byte>;
  template <class T>
  using Element = std::conditional_t<kConst, const T, T>;

  BasicView() = default;
  /// `row_stride` counts elements from one row to the next.
  BasicView(Bytes* bytes, DType dtype, Shape shape, int64_t row_stride)
      : bytes_(bytes), dtype_(dtype), shape_(shape), row_stride_(row_stride) {}
  BasicView(Bytes* bytes, DType dtype, Shape shape)
      : BasicView(bytes, dtype, shape, shape.row_elements()) {}
  /// A view of host memory, contiguous.
  template <class T>
  static BasicView of(Element<T>* data, Shape shape) {
    return BasicView(reinterpret_cast<Bytes*>(data), DTypeOf<T>::value, shape);
  }

  /// A writable view reads, too.
  operator BasicView<true>() const requires(!kConst) {
    return {bytes_, dtype_, shape_, row_stride_};
  }

  bool empty() const { return bytes_ == nullptr || shape_.elements() == 0; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t rows() const { return shape_.rank() == 0 ? 1 : shape_[0]; }
  int64_t row_elements() const { return shape_.row_elements(); }
  int64_t elements() const { return shape_.elements(); }
  int64_t bytes_needed() const { return elements() * size_of(dtype_); }
  int64_t row_stride() const { return row_stride_; }
  bool is_contiguous() const { return rows() <= 1 || row_stride_ == row_elements(); }
  Bytes* bytes() const { return bytes_; }

  /// Requires: T is the element type.
  template <class T>
  Element<T>* data() const {
    RINGBOLT_CHECK(dtype_ == DTypeOf<T>::value);
    return reinterpret_cast<Element<T>*>(bytes_);
  }
  template <class T>
  Element<T>* row(int64_t i) const {
    return data<T>() + i * row_stride_;
  }

  /// Rows [begin, end).
  BasicView slice_rows(int64_t begin, int64_t end) const {
    RINGBOLT_CHECK(0 <= begin && begin <= end && end <= rows());
    return {bytes_ + begin * row_stride_ * size_of(dtype_), dtype_, shape_.with_rows(end - begin),
            row_stride_};
  }
  /// (T, N, …) to (T, end - begin, …): the second dimension's [begin, end), with the rows' stride
  /// kept.
  BasicView slice_columns(int64_t begin, int64_t end) const;
  /// Another shape over the same elements. Requires: the same count, and, for strided rows, the
  /// same first dimension.
  BasicView reshape(Shape shape) const {
    RINGBOLT_CHECK(shape.elements() == elements());
    RINGBOLT_CHECK(is_contiguous() || shape[0] == rows());
    return {bytes_, dtype_, shape, is_contiguous() ? shape.row_elements() : row_stride_};
  }

 private:
  Bytes* bytes_ = nullptr;
  DType dtype_ = DType::f32;
  Shape shape_;
  int64_t row_stride_ = 0;
};

using View = BasicView<false>;
using ConstView = BasicView<true>;

extern template class BasicView<false>;
extern template class BasicView<true>;

/// Owns uninitialised memory of one device, contiguous. Made by Backend::allocate.
class Tensor {
 public:
  Tensor() = default;
  /// `storage` releases the memory in its deleter.
  Tensor(std::shared_ptr<std::byte> storage, DType dtype, Shape shape)
      : storage_(std::move(storage)), dtype_(dtype), shape_(shape) {}
  Tensor(Tensor&&) noexcept = default;
  Tensor& operator=(Tensor&&) noexcept = default;
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  ~Tensor() = default;

  bool empty() const { return storage_ == nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  View view() { return {storage_.get(), dtype_, shape_}; }
  ConstView view() const { return {storage_.get(), dtype_, shape_}; }
  operator View() { return view(); }
  operator ConstView() const { return view(); }

 private:
  std::shared_ptr<std::byte> storage_;
  DType dtype_ = DType::f32;
  Shape shape_;
};

}  // namespace ringbolt
