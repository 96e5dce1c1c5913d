#include "core/backend/backend.h"

namespace ringbolt {

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
