// Matrix products of the CPU backend: large ones by kernels of our own (packed_product.h), the rest
// by oneDNN, to which this is the only door.
//
// Creating a oneDNN primitive costs up to milliseconds, so each (shape, type, layout) is created
// once and kept.
#pragma once

#include <memory>
#include <optional>

#include "core/backend/backend.h"
#include "core/cpu/allocator.h"
#include "core/cpu/isa.h"

namespace ringbolt::cpu {

class Matmul {
 public:
  /// `allocator` lends the memory of packed operands for the time of a product, and must outlive
  /// this.
  Matmul(Isa isa, Allocator& allocator);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  /// See Backend::matmul. Throws: std::logic_error for shapes or types that do not match.
  void operator()(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b, View c,
                  Update update, std::optional<ConstView> bias);

 private:
  struct Cache;
  std::unique_ptr<Cache> cache_;
};

/// "oneDNN 2.6.3".
std::string matmul_library();

}  // namespace ringbolt::cpu
