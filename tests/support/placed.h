// A tensor operand laid out as the caller wants it: contiguous, or with rows further apart and a
// canary between them.
#pragma once

#include <algorithm>
#include <vector>

#include "core/backend/backend.h"
#include "tests/support/random_values.h"

namespace ringbolt::testing_support {

class Placed {
 public:
  /// Rows of `values` (shape), `padding` elements apart.
  Placed(Backend& backend, DType dtype, Shape shape, const std::vector<double>& values,
         int64_t padding = 0)
      : backend_(backend), shape_(shape), padding_(padding) {
    const int64_t width = shape.row_elements();
    std::vector<double> wide;
    for (int64_t row = 0; row < shape[0]; ++row) {
      wide.insert(wide.end(), values.begin() + row * width, values.begin() + (row + 1) * width);
      wide.insert(wide.end(), static_cast<size_t>(padding), kCanary);
    }
    storage_ = upload_values(backend, dtype, {shape[0], width + padding}, wide);
  }
  /// To be written: holds canaries, so that what is not written shows.
  Placed(Backend& backend, DType dtype, Shape shape, int64_t padding = 0)
      : Placed(backend, dtype, shape,
               std::vector<double>(static_cast<size_t>(shape.elements()), kCanary), padding) {}

  View view() {
    return {storage_.view().bytes(), storage_.dtype(), shape_, shape_.row_elements() + padding_};
  }
  operator View() { return view(); }
  operator ConstView() { return view(); }

  std::vector<double> read() { return as_doubles(download_f32(backend_, view())); }

  /// Nothing between the rows was written.
  bool padding_intact() {
    const int64_t width = shape_.row_elements();
    const std::vector<float> all = download_f32(backend_, storage_);
    for (int64_t row = 0; row < shape_[0]; ++row) {
      const auto begin = all.begin() + row * (width + padding_) + width;
      if (!std::all_of(begin, begin + padding_,
                       [](float x) { return x == static_cast<float>(kCanary); }))
        return false;
    }
    return true;
  }

 private:
  static constexpr double kCanary = -12288.0;  // exact in bf16, and far from what any test computes

  Backend& backend_;
  Shape shape_;
  int64_t padding_;
  Tensor storage_;
};

inline Tensor upload_ids(Backend& backend, const std::vector<int32_t>& ids) {
  return upload_new(backend, DType::i32, {static_cast<int64_t>(ids.size())}, ids.data());
}

inline std::vector<int32_t> download_ids(Backend& backend, ConstView x) {
  std::vector<int32_t> ids(static_cast<size_t>(x.elements()));
  backend.download(x, ids.data());
  return ids;
}

}  // namespace ringbolt::testing_support
