// Uses the installed headers and libraries: a product of two small matrices on the CPU backend.
#include <iostream>
#include <vector>

#include "core/backend/backend.h"
#include "core/base/build_info.h"
#include "parallel/communicator.h"

int main() {
  using namespace ringbolt;
  const auto backend = make_cpu_backend();
  const std::vector<float> a{1, 2, 3, 4, 5, 6};  // (2, 3)
  const std::vector<float> b{1, 0, 2, 1, 0, 3};  // (3, 2)
  Tensor x = upload_new(*backend, DType::f32, {2, 3}, a.data());
  Tensor y = upload_new(*backend, DType::f32, {3, 2}, b.data());
  Tensor z = backend->allocate(DType::f32, {2, 2});
  backend->matmul(x, Transpose::no, y, Transpose::no, z);
  const bool right = download_f32(*backend, z) == std::vector<float>{5, 11, 14, 23};
  std::cout << build_line() << ", " << make_single_communicator()->size()
            << " rank: " << (right ? "right" : "wrong") << '\n';
  return right ? 0 : 1;
}
