#include "io/boxes.h"

#include <algorithm>
#include <utility>

namespace ringbolt {
namespace {

void add_boxes(const Shape& shape, int dimension, std::vector<int64_t> prefix, int64_t first,
               int64_t count, int64_t offset, std::vector<Box>& boxes) {
  if (count == 0) return;
  int64_t inner = 1;  // elements of one index of this dimension
  for (int i = dimension + 1; i < shape.rank(); ++i) inner *= shape[i];
  const auto add_whole = [&](int64_t index, int64_t n, int64_t at) {
    Box box{prefix, std::vector<int64_t>(prefix.size(), 1), at};
    box.start.push_back(index);
    box.count.push_back(n);
    for (int i = dimension + 1; i < shape.rank(); ++i) {
      box.start.push_back(0);
      box.count.push_back(shape[i]);
    }
    boxes.push_back(std::move(box));
  };
  const auto add_part = [&](int64_t index, int64_t begin, int64_t n, int64_t at) {
    std::vector<int64_t> deeper = prefix;
    deeper.push_back(index);
    add_boxes(shape, dimension + 1, std::move(deeper), begin, n, at, boxes);
  };
  int64_t index = first / inner;
  if (const int64_t skipped = first % inner; skipped != 0) {
    const int64_t head = std::min(count, inner - skipped);
    add_part(index, skipped, head, offset);
    ++index;
    offset += head;
    count -= head;
  }
  if (const int64_t whole = count / inner; whole > 0) {
    add_whole(index, whole, offset);
    index += whole;
    offset += whole * inner;
    count -= whole * inner;
  }
  if (count > 0) add_part(index, 0, count, offset);
}

}  // namespace

std::vector<Box> boxes_of_range(const Shape& shape, int64_t first, int64_t count) {
  std::vector<Box> boxes;
  add_boxes(shape, 0, {}, first, count, 0, boxes);
  return boxes;
}

}  // namespace ringbolt
