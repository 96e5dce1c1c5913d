#include "core/backend/backend.h"

#include <algorithm>
#include <cmath>

namespace ringbolt {

void Backend::merge_attention(ConstView other_out, ConstView other_lse, View out, View lse) {
  const std::vector<float> outs = download_f32(*this, other_out);
  const std::vector<float> lses = download_f32(*this, other_lse);
  std::vector<float> merged = download_f32(*this, out);
  std::vector<float> sums = download_f32(*this, lse);
  const size_t dim = sums.empty() ? 0 : merged.size() / sums.size();
  for (size_t row = 0; row < sums.size(); ++row) {
    const float most = std::max(sums[row], lses[row]);
    if (std::isinf(most)) continue;  // no key in either
    const float mine = std::exp(sums[row] - most);
    const float other = std::exp(lses[row] - most);
    const float total = mine + other;
    for (size_t i = row * dim; i < (row + 1) * dim; ++i) merged[i] = (merged[i] * mine + outs[i] * other) / total;
    sums[row] = most + std::log(total);
  }
  upload(merged.data(), out);
  upload(sums.data(), lse);
}

Tensor upload_new(Backend& backend, DType dtype, Shape shape, const void* host) {
  Tensor tensor = backend.allocate(dtype, shape);
  backend.upload(host, tensor);
  return tensor;
}

std::vector<float> download_f32(Backend& backend, ConstView x) {
  std::vector<float> host(static_cast<size_t>(x.elements()));
  if (x.dtype() == DType::f32) {
    backend.download(x, host.data());
  } else {
    Tensor wide = backend.allocate(DType::f32, x.shape());
    backend.convert(x, wide);
    backend.download(wide, host.data());
  }
  return host;
}

}  // namespace ringbolt
