// However many threads there are, and however they share the panels: the same bits, and the
// reference's values.
#include "core/cpu/packed_product.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/cpu/isa.h"
#include "tests/support/random_values.h"

namespace ringbolt::cpu {
namespace {

using testing_support::random_values;
using testing_support::rounded_to;

struct Case {
  const char* what;
  int64_t rows, depth, columns;
  bool a_transposed, b_transposed;
};

/// Operands of a product as their type lays them out.
class Operands {
 public:
  Operands(const Case& shape, DType dtype)
      : shape_(shape),
        dtype_(dtype),
        a_(rounded_to(dtype, random_values(1, shape.rows * shape.depth))),
        b_(rounded_to(dtype, random_values(2, shape.depth * shape.columns))),
        a_bytes_(stored(a_)),
        b_bytes_(stored(b_)) {}

  std::vector<std::byte> multiplied(const ProductKernels& kernels, int threads) const {
    const int64_t count = shape_.rows * shape_.columns;
    std::vector<std::byte> c(static_cast<size_t>(count * size_of(dtype_)));
    const auto operand = [&](int64_t rows, int64_t columns, bool transposed) {
      return transposed ? Operand{rows, columns, 1, rows, dtype_}
                        : Operand{rows, columns, columns, 1, dtype_};
    };
    const Product product{operand(shape_.rows, shape_.depth, shape_.a_transposed),
                          operand(shape_.depth, shape_.columns, shape_.b_transposed),
                          operand(shape_.rows, shape_.columns, false),
                          a_bytes_.data(),
                          b_bytes_.data(),
                          c.data(),
                          Update::overwrite,
                          std::nullopt};
    EXPECT_TRUE(is_large(product));
    std::thread([&] {  // whose number of threads is its own
      make_cpu_backend(threads);
      Allocator allocator;
      packed_product(kernels, allocator, product);
    })
        .join();
    return c;
  }

  /// Every 61st element against the double-precision sum. The bound: `depth` roundings in f32 of at
  /// most the sum of magnitudes, and one rounding to C's type.
  void expect_close(const std::vector<std::byte>& c) const {
    const double rounding = dtype_ == DType::bf16 ? 0x1p-8 : 0x1p-24;
    double worst = 0;
    for (int64_t i = 0; i < shape_.rows * shape_.columns; i += 61) {
      double sum = 0;
      double magnitude = 0;
      for (int64_t d = 0; d < shape_.depth; ++d) {
        const double term = a(i / shape_.columns, d) * b(d, i % shape_.columns);
        sum += term;
        magnitude += std::abs(term);
      }
      const double bound =
          static_cast<double>(shape_.depth + 2) * 0x1p-24 * magnitude + rounding * std::abs(sum);
      worst = std::max(worst, std::abs(element(c, i) - sum) / bound);
    }
    EXPECT_LE(worst, 1);
  }

 private:
  double a(int64_t row, int64_t d) const {
    return a_[static_cast<size_t>(shape_.a_transposed ? d * shape_.rows + row
                                                      : row * shape_.depth + d)];
  }
  double b(int64_t d, int64_t column) const {
    return b_[static_cast<size_t>(shape_.b_transposed ? column * shape_.depth + d
                                                      : d * shape_.columns + column)];
  }

  double element(const std::vector<std::byte>& bytes, int64_t i) const {
    if (dtype_ == DType::bf16) return to_float(reinterpret_cast<const bf16*>(bytes.data())[i]);
    return reinterpret_cast<const float*>(bytes.data())[i];
  }

  std::vector<std::byte> stored(const std::vector<double>& values) const {
    std::vector<std::byte> bytes(values.size() * static_cast<size_t>(size_of(dtype_)));
    for (size_t i = 0; i < values.size(); ++i) {
      const auto x = static_cast<float>(values[i]);
      if (dtype_ == DType::bf16) {
        reinterpret_cast<bf16*>(bytes.data())[i] = from_float<bf16>(x);
      } else {
        reinterpret_cast<float*>(bytes.data())[i] = x;
      }
    }
    return bytes;
  }

  Case shape_;
  DType dtype_;
  std::vector<double> a_;
  std::vector<double> b_;
  std::vector<std::byte> a_bytes_;
  std::vector<std::byte> b_bytes_;
};

class PackedProduct : public testing::TestWithParam<Case> {};

TEST_P(PackedProduct, HasTheSameBitsForAnyNumberOfThreads) {
  int products = 0;
  for (const Isa isa : available_isas()) {
    const ProductKernelsOfIsa kernels = product_kernels(isa);
    for (const auto& [of_type, dtype] :
         {std::pair{kernels.f32, DType::f32}, {kernels.bf16, DType::bf16}}) {
      if (of_type == nullptr) continue;
      SCOPED_TRACE(testing::Message() << name_of(isa) << ' ' << name_of(dtype));
      const Operands operands(GetParam(), dtype);
      const std::vector<std::byte> one = operands.multiplied(*of_type, 1);
      operands.expect_close(one);
      for (const int threads : {2, 3, 7})
        EXPECT_TRUE(operands.multiplied(*of_type, threads) == one) << threads << " threads";
      ++products;
    }
  }
  if (products == 0) GTEST_SKIP() << "no product of its own for this machine's instruction sets";
}

// Depths are even: rows of A in bf16 are read as words. 12 panels serve 7 threads that pack them
// before, and fewer that pack them beside the first block; 65 panels are private with one thread.
INSTANTIATE_TEST_SUITE_P(
    Shapes, PackedProduct,
    testing::Values(Case{"PackedBeside", 775, 1046, 707, false, false},
                    Case{"PackedBesideFromColumns", 775, 1046, 707, false, true},
                    Case{"CopiedStrips", 775, 1046, 707, true, false},
                    Case{"CopiedStripsInPasses", 775, 2310, 201, true, true},
                    Case{"PrivatePanels", 769, 66, 4137, false, true},
                    Case{"PrivatePanelsFromRows", 769, 66, 4137, false, false}),
    [](const auto& instance) { return std::string(instance.param.what); });

}  // namespace
}  // namespace ringbolt::cpu
