#include "core/bench/random_tensor.h"

#include <algorithm>
#include <vector>

#include "core/base/random.h"

namespace ringbolt {

Tensor random_tensor(Backend& backend, DType dtype, Shape shape, uint64_t seed) {
  // No multiple of a row, so that rows differ; pieces stay aligned to 128 bytes.
  constexpr int64_t kBlock = (int64_t{1} << 20) + 64;
  const int64_t count = shape.elements();
  const Philox random(seed);
  std::vector<float> values(static_cast<size_t>(std::min(count, kBlock)));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(2 * random.uniform(i) - 1);
  const Tensor block =
      upload_new(backend, DType::f32, {static_cast<int64_t>(values.size())}, values.data());
  Tensor out = backend.allocate(dtype, shape);
  const View flat = out.view().reshape({count});
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    backend.convert(block.view().slice_rows(0, end - begin), flat.slice_rows(begin, end));
  }
  return out;
}

}  // namespace ringbolt
