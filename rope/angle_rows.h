// Rows of a rotary table, one position after another.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "rope/angle.h"

namespace ringbolt {

/// cos and sin in double for any position, cheap from one position to the next: the angles of
/// position 64 h + l are sums of those of 64 h and l, whose cosines and sines are kept (h for the
/// last row, l in a table). Each part is formed and reduced on its own, so nothing accumulates.
class AngleRows {
 public:
  explicit AngleRows(std::span<const double> frequencies)
      : frequencies_(frequencies), high_(frequencies.size()), low_(kLow * frequencies.size()) {
    for (size_t l = 0; l < kLow; ++l) fill(static_cast<int64_t>(l), &low_[l * frequencies_.size()]);
  }

  /// Row of R/2 products with `factor`.
  void write(int64_t position, double factor, float* cosines, float* sines) {
    const int64_t high = position >> kLowBits;
    if (at_ != high) fill(high << kLowBits, high_.data());
    at_ = high;
    const Turn* low =
        &low_[static_cast<size_t>(position - (high << kLowBits)) * frequencies_.size()];
    for (size_t i = 0; i < frequencies_.size(); ++i) {
      cosines[i] =
          static_cast<float>(factor * (high_[i].cos * low[i].cos - high_[i].sin * low[i].sin));
      sines[i] =
          static_cast<float>(factor * (high_[i].sin * low[i].cos + high_[i].cos * low[i].sin));
    }
  }

 private:
  static constexpr int kLowBits = 6;
  static constexpr size_t kLow = size_t{1} << kLowBits;
  struct Turn {
    double cos;
    double sin;
  };

  void fill(int64_t position, Turn* row) const {
    for (size_t i = 0; i < frequencies_.size(); ++i) {
      const double angle = rotary_angle(position, frequencies_[i]);
      row[i] = {std::cos(angle), std::sin(angle)};
    }
  }

  std::span<const double> frequencies_;
  std::vector<Turn> high_;
  std::vector<Turn> low_;
  std::optional<int64_t> at_;
};

}  // namespace ringbolt
