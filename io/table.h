// Tables for a terminal: columns aligned, the first to the left, numbers to the right.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ringbolt {

class Table {
 public:
  explicit Table(std::vector<std::string> header);
  /// Missing cells are empty. Requires: no more cells than the header has.
  void add_row(std::vector<std::string> cells);
  size_t rows() const { return rows_.size(); }
  /// Header, a rule, the rows; each line ends with a newline and has no trailing spaces.
  std::string str() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

/// A number with a fixed count of decimals; "-" for NaN, "inf" for infinity.
std::string fixed(double value, int decimals);
/// Sizes as people write them: 512, "1K", "16K", "1.5K", "1M" (K is 1024).
std::string short_size(int64_t value);

}  // namespace ringbolt
