// Tensors of more than 2^31 elements, for tests of index arithmetic: their rows repeat a short
// pattern, so that any few of them can be made again in a small tensor, on which the operation must
// give the same bits.
//
// The period is a prime: an index that lost its upper bits meets other values.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/backend_cases.h"
#include "tests/support/random_values.h"

namespace ringbolt::testing_support {

inline constexpr int64_t kPeriod = 1021;

/// Rows [begin, end).
using RowRange = std::pair<int64_t, int64_t>;

/// Rows of `width` elements that together are more than 2^31.
inline int64_t rows_beyond(int64_t width) { return (int64_t{1} << 31) / width + 70; }

/// `count` rows each: the first, those around elements 2^29, 2^30 and 2^31 (bytes 2^31 to 2^33 of
/// f32, 2^30 to 2^32 of bf16), and the last.
inline std::vector<RowRange> windows_of(int64_t rows, int64_t width, int64_t count) {
  std::vector<RowRange> windows{{0, count}};
  for (const int power : {29, 30, 31}) {
    const int64_t begin = (int64_t{1} << power) / width - count / 2;
    if (begin > windows.back().second && begin + count < rows - count)
      windows.emplace_back(begin, begin + count);
  }
  windows.emplace_back(rows - count, rows);
  return windows;
}

struct PatternValues {
  double low = -1, high = 1;
  bool whole = false;  ///< numbers from low to high, both included
  /// The first element of each row, where given: the largest, so that rows share a scale.
  std::optional<double> first = std::nullopt;
};

/// Endless rows of f32, bf16 or i32.
class Pattern {
 public:
  Pattern(Backend& backend, DType dtype, Shape row, uint64_t seed, PatternValues values = {})
      : backend_(backend), shape_(row.with_rows(kPeriod)), dtype_(dtype) {
    host_ =
        random_values(seed, shape_.elements(), values.low, values.high + (values.whole ? 1 : 0));
    if (values.whole || dtype == DType::i32) {
      for (double& x : host_) x = std::floor(x);
    } else {
      host_ = rounded_to(dtype, std::move(host_));
    }
    if (values.first) {
      for (int64_t row_number = 0; row_number < kPeriod; ++row_number)
        host_[static_cast<size_t>(row_number * width())] = *values.first;
    }
    if (dtype != DType::i32) block_ = upload_values(backend, dtype, shape_, host_);
  }

  DType dtype() const { return dtype_; }
  int64_t width() const { return shape_.row_elements(); }
  Shape shape(int64_t rows) const { return shape_.with_rows(rows); }
  /// Element `i` of row `row`.
  double at(int64_t row, int64_t i) const {
    return host_[static_cast<size_t>(row % kPeriod * width() + i)];
  }

  /// Writes rows first, first + 1, … into x.
  void write(View x, int64_t first) const {
    if (dtype_ == DType::i32) return write_ids(x, first);
    for (int64_t row = 0; row < x.rows();) {
      const int64_t from = (first + row) % kPeriod;
      const int64_t count = std::min(kPeriod - from, x.rows() - row);
      backend_.convert(block_.view().slice_rows(from, from + count),
                       x.slice_rows(row, row + count));
      row += count;
    }
  }
  Tensor rows(RowRange range) const {
    Tensor x = backend_.allocate(dtype_, shape(range.second - range.first));
    write(x, range.first);
    return x;
  }

 private:
  void write_ids(View x, int64_t first) const {
    std::vector<int32_t> ids(static_cast<size_t>(x.rows()));
    for (int64_t row = 0; row < x.rows(); ++row)
      ids[static_cast<size_t>(row)] = static_cast<int32_t>(at(first + row, 0));
    backend_.upload(ids.data(), x);
  }

  Backend& backend_;
  Shape shape_;
  DType dtype_;
  std::vector<double> host_;
  Tensor block_;
};

inline std::vector<std::byte> bytes_of(Backend& backend, ConstView x) {
  std::vector<std::byte> bytes(static_cast<size_t>(x.bytes_needed()));
  backend.download(x, bytes.data());
  return bytes;
}

/// Whether both views hold the same bits.
inline testing::AssertionResult same_bits(Backend& backend, ConstView x, ConstView expected) {
  if (x.dtype() != expected.dtype() || !(x.shape() == expected.shape()) || x.empty())
    return testing::AssertionFailure() << "shapes or types differ, or nothing was compared";
  const auto left = bytes_of(backend, x);
  const auto right = bytes_of(backend, expected);
  size_t differ = 0, first = left.size();
  for (size_t i = 0; i < left.size(); ++i) {
    if (left[i] == right[i]) continue;
    first = std::min(first, i);
    ++differ;
  }
  if (differ == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << differ << " of " << left.size() << " bytes differ, from " << first << " on";
}

enum class Role { input, result };

/// One operand by rows: what it holds at first, and whether the operation writes it.
struct RowOperand {
  const Pattern* pattern;
  Role role;
};

/// Runs `op` on `rows` rows of every operand, then on the rows of each window alone, and expects
/// the same bits in the results. The first operand is the one of more than 2^31 elements. Returns
/// the large operands.
inline std::vector<Tensor> expect_rows_alike(Backend& backend,
                                             const std::vector<RowOperand>& operands,
                                             const std::function<void(std::vector<View>&)>& op) {
  const auto run = [&](RowRange range) {
    std::vector<Tensor> tensors;
    std::vector<View> views;
    for (const RowOperand& operand : operands) {
      tensors.push_back(operand.pattern->rows(range));
      views.push_back(tensors.back());
    }
    op(views);
    return tensors;
  };
  const int64_t width = operands[0].pattern->width();
  const int64_t rows = rows_beyond(width);
  std::vector<Tensor> whole = run({0, rows});
  for (const RowRange& window : windows_of(rows, width, 5)) {
    std::vector<Tensor> part = run(window);
    for (size_t i = 0; i < operands.size(); ++i) {
      if (operands[i].role == Role::input) continue;
      EXPECT_TRUE(
          same_bits(backend, whole[i].view().slice_rows(window.first, window.second), part[i]))
          << "operand " << i << ", rows " << window.first << " to " << window.second;
    }
  }
  return whole;
}

/// Whether each of `sums` is exactly what `expected(i)` says.
inline testing::AssertionResult equal_each(const std::vector<float>& sums,
                                           const std::function<double(int64_t)>& expected) {
  for (size_t i = 0; i < sums.size(); ++i) {
    const double e = expected(static_cast<int64_t>(i));
    if (static_cast<double>(sums[i]) != e)
      return testing::AssertionFailure() << "element " << i << " is " << sums[i] << ", not " << e;
  }
  if (sums.empty()) return testing::AssertionFailure() << "nothing was compared";
  return testing::AssertionSuccess();
}

/// The sum over rows [0, rows) of what repeats every kPeriod rows.
inline double sum_over_rows(int64_t rows, const std::function<double(int64_t)>& of_row) {
  double period = 0, rest = 0;
  for (int64_t row = 0; row < kPeriod; ++row) {
    const double x = of_row(row);
    period += x;
    if (row < rows % kPeriod) rest += x;
  }
  return static_cast<double>(rows / kPeriod) * period + rest;
}

inline bool large_tests_wanted() { return std::getenv("RINGBOLT_LARGE_TENSORS") != nullptr; }

/// One case of the CPU stands for all where none is to run.
inline std::vector<BackendCase> large_cases() {
  std::vector<BackendCase> cases = backend_cases();
  bool first = true;
  std::erase_if(cases, [&](const BackendCase& which) {
    return !which.on_cuda() && !std::exchange(first, false) && !large_tests_wanted();
  });
  return cases;
}

/// A test of one device and type on tensors of more than 2^31 elements.
class LargeTest : public BackendTest {
 protected:
  void SetUp() override {
    if (GetParam().device != "cuda" && !large_tests_wanted())
      GTEST_SKIP() << "it takes 10 to 22 GB of memory and minutes. Set RINGBOLT_LARGE_TENSORS=1.";
    BackendTest::SetUp();
  }
  /// Rows of `row` elements with values of A, or of another type.
  Pattern of(Shape row, uint64_t seed, PatternValues values = {}) {
    return Pattern(backend(), dtype(), row, seed, values);
  }
  Pattern f32(Shape row, uint64_t seed, PatternValues values = {}) {
    return Pattern(backend(), DType::f32, row, seed, values);
  }
  Pattern ids(int64_t count, uint64_t seed) {
    return Pattern(backend(), DType::i32, {1}, seed, {0, static_cast<double>(count)});
  }
  void expect_alike(const std::vector<RowOperand>& operands,
                    const std::function<void(std::vector<View>&)>& op) {
    expect_rows_alike(backend(), operands, op);
  }
  Tensor zeros(DType type, Shape shape) {
    Tensor x = backend().allocate(type, shape);
    backend().fill_zero(x);
    return x;
  }
};

}  // namespace ringbolt::testing_support
