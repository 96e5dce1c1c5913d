#include "core/base/nearest.h"

#include <algorithm>

namespace ringbolt {

int64_t edit_distance(std::string_view a, std::string_view b) {
  const size_t width = b.size() + 1;
  std::vector<int64_t> table((a.size() + 1) *
                             width);  // (i, j): distance of the first i and j characters
  for (size_t j = 0; j < width; ++j) table[j] = static_cast<int64_t>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    table[i * width] = static_cast<int64_t>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t substitution = table[(i - 1) * width + j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      int64_t least =
          std::min({table[(i - 1) * width + j] + 1, table[i * width + j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        least = std::min(least, table[(i - 2) * width + j - 2] + 1);
      }
      table[i * width + j] = least;
    }
  }
  return table.back();
}

std::string nearest_name(std::string_view typed, const std::vector<std::string>& known) {
  if (known.empty()) return "";
  std::string nearest;
  int64_t least = INT64_MAX;
  for (const std::string& name : known) {
    const int64_t distance = edit_distance(typed, name);
    if (distance < least) {
      least = distance;
      nearest = name;
    }
  }
  const auto longer = static_cast<int64_t>(std::max(typed.size(), nearest.size()));
  if (least * 3 <= longer) return nearest;
  const auto begins = [&](const std::string& name) {
    return typed.size() >= 2 && name.starts_with(typed);
  };
  if (std::count_if(known.begin(), known.end(), begins) == 1)
    return *std::find_if(known.begin(), known.end(), begins);
  return "";
}

}  // namespace ringbolt
