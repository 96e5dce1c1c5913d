// Matrix products, biases and the embedding of every device against the double-precision reference.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <gtest/gtest.h>

#include "tests/support/backend_cases.h"
#include "tests/support/compare.h"
#include "tests/support/placed.h"
#include "tests/support/printers.h"
#include "tests/support/reference/linear.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::Values;

struct Product {
  int64_t m, inner, n;
};

class LinearOps : public BackendTest {
 protected:
  struct How {
    Transpose transpose_a = Transpose::no;
    Transpose transpose_b = Transpose::no;
    Update update = Update::overwrite;
    bool bias = false;
    DType c_dtype = DType::f32;
    int64_t padding = 0;
  };

  static Values magnitudes(Values x) {
    for (double& value : x) value = std::abs(value);
    return x;
  }

  /// One product against the reference. The bound is the contract's, for the sum of |a| |b| that
  /// was really added: `inner` roundings in f32 in the worst case, and one rounding to c's type.
  void check(const Product& p, const How& how) {
    const bool at = how.transpose_a == Transpose::yes, bt = how.transpose_b == Transpose::yes;
    const Values a = rounded_to(dtype(), random_values(1, p.m * p.inner));
    const Values b = rounded_to(dtype(), random_values(2, p.inner * p.n));
    const Values bias = rounded_to(dtype(), random_values(3, p.n));
    const Values before = rounded_to(how.c_dtype, random_values(4, p.m * p.n));
    Placed pa(backend(), dtype(), at ? Shape{p.inner, p.m} : Shape{p.m, p.inner}, a, how.padding);
    Placed pb(backend(), dtype(), bt ? Shape{p.n, p.inner} : Shape{p.inner, p.n}, b, how.padding);
    Placed pc(backend(), how.c_dtype, {p.m, p.n}, before, how.padding);
    const int64_t shift = how.padding > 0 ? 1 : 0;  // a bias that no vector's alignment fits
    Values shifted(static_cast<size_t>(shift), 0.0);
    shifted.insert(shifted.end(), bias.begin(), bias.end());
    Placed pbias(backend(), dtype(), {shift + p.n}, shifted);
    std::optional<ConstView> bias_view;
    if (how.bias) bias_view = pbias.view().slice_rows(shift, shift + p.n);

    backend().matmul(pa, how.transpose_a, pb, how.transpose_b, pc, how.update, bias_view);

    Values expected = reference::matmul(a, how.transpose_a, b, how.transpose_b, p.m, p.inner, p.n);
    Values added = reference::matmul(magnitudes(a), how.transpose_a, magnitudes(b), how.transpose_b,
                                     p.m, p.inner, p.n);
    for (int64_t i = 0; i < p.m * p.n; ++i) {
      const double more = (how.update == Update::accumulate ? before.data()[i] : 0) +
                          (how.bias ? bias.data()[i % p.n] : 0);
      expected.data()[i] += more;
      added.data()[i] += std::abs(more);
    }
    const double largest_sum = *std::max_element(added.begin(), added.end());
    const Comparison c = compare(pc.read(), expected);
    EXPECT_EQ(c.compared, p.m * p.n);
    EXPECT_EQ(c.not_finite, 0);
    EXPECT_LE(c.max_error, static_cast<double>(p.inner + 2) * 0x1p-24 * largest_sum +
                               eps(how.c_dtype) * c.largest_expected)
        << c.str();
    EXPECT_TRUE(pc.padding_intact());
  }
};

TEST_P(LinearOps, MatmulMatchesTheReferenceForEveryTransposeTypeAndStride) {
  const std::vector<Product> products = {{1, 1, 1},   {7, 13, 5},  {33, 65, 17}, {64, 96, 48},
                                         {3, 257, 2}, {1, 96, 31}, {40, 1, 9}};
  for (const Product& p : products) {
    for (Transpose a : {Transpose::no, Transpose::yes}) {
      for (Transpose b : {Transpose::no, Transpose::yes}) {
        for (DType c_dtype : {DType::f32, dtype()}) {
          for (int64_t padding : {0, 3}) {
            SCOPED_TRACE(testing::Message()
                         << p.m << 'x' << p.inner << 'x' << p.n << " a "
                         << testing::PrintToString(a) << " b " << testing::PrintToString(b) << " c "
                         << name_of(c_dtype) << " padding " << padding);
            check(p, {.transpose_a = a, .transpose_b = b, .c_dtype = c_dtype, .padding = padding});
          }
        }
      }
    }
  }
}

// Products that a backend may cut into blocks and copy into an order of its own: more than one
// block of rows, a depth and columns that do not fill the last panel, and rows of 4 KiB.
TEST_P(LinearOps, MatmulOfLargeOperandsMatchesTheReference) {
  const int64_t page = 4096 / size_of(dtype());
  for (Transpose a : {Transpose::no, Transpose::yes}) {
    for (Transpose b : {Transpose::no, Transpose::yes}) {
      SCOPED_TRACE(testing::Message()
                   << "a " << testing::PrintToString(a) << " b " << testing::PrintToString(b));
      const How how{.transpose_a = a, .transpose_b = b, .c_dtype = dtype()};
      check({768, 1037, 64}, how);
      check({771, page, 64}, how);
      check({786, 97, 130}, how);
      check({786, 97, 130}, {.transpose_a = a, .transpose_b = b, .padding = 3});
      check({786, 97, 130},
            {.transpose_a = a, .transpose_b = b, .update = Update::accumulate, .bias = true});
    }
  }
}

// More columns than one block of the first operand meets at a time; and a depth that is summed in
// two passes (1637 words of 32 bits) with more panels than are packed at a time.
TEST_P(LinearOps, MatmulOfOperandsInSeveralPassesMatchesTheReference) {
  const How left{.transpose_a = Transpose::yes, .update = Update::accumulate, .bias = true};
  const How right{.transpose_b = Transpose::yes, .bias = true, .padding = 6};
  const int64_t deep = 1637 * (4 / size_of(dtype()));
  for (const How& how : {left, right}) {
    SCOPED_TRACE(testing::Message() << "a " << testing::PrintToString(how.transpose_a));
    check({769, 98, 1100}, how);
  }
  check({769, deep, 897}, left);
  How narrow = right;
  narrow.c_dtype = dtype();
  narrow.update = Update::accumulate;
  check({769, deep, 65}, narrow);
}

TEST_P(LinearOps, MatmulAccumulatesAndAddsABias) {
  for (const Product& p : {Product{7, 13, 5}, Product{33, 65, 17}, Product{1, 40, 3}}) {
    for (DType c_dtype : {DType::f32, dtype()}) {
      SCOPED_TRACE(testing::Message()
                   << p.m << 'x' << p.inner << 'x' << p.n << " c " << name_of(c_dtype));
      check(p, {.transpose_b = Transpose::yes, .bias = true, .c_dtype = c_dtype});
      check(p, {.transpose_b = Transpose::yes, .update = Update::accumulate, .c_dtype = c_dtype});
      check(p, {.update = Update::accumulate, .bias = true, .c_dtype = c_dtype, .padding = 5});
    }
  }
}

TEST_P(LinearOps, MatmulOfNoRowsDoesNothing) {
  Placed a(backend(), dtype(), {0, 4}, Values{}),
      b(backend(), dtype(), {4, 3}, random_values(1, 12));
  Placed c(backend(), dtype(), {0, 3}, Values{});
  EXPECT_NO_THROW(backend().matmul(a, Transpose::no, b, Transpose::no, c));
}

TEST_P(LinearOps, MatmulReusesAShapeWithOtherDataAndOtherStrides) {
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (int64_t padding : {0, 1, 0, 2})
      check({9, 20, 11}, {.transpose_b = Transpose::yes, .padding = padding});
  }
}

TEST_P(LinearOps, MatmulSpreadsNansOnlyAlongTheirRow) {
  Values a = random_values(1, 3 * 8);
  a[8 + 2] = std::numeric_limits<double>::quiet_NaN();
  Placed pa(backend(), dtype(), {3, 8}, a), pb(backend(), dtype(), {8, 5}, random_values(2, 40));
  Placed pc(backend(), DType::f32, {3, 5});
  backend().matmul(pa, Transpose::no, pb, Transpose::no, pc);
  const Values c = pc.read();
  for (size_t i = 0; i < c.size(); ++i) EXPECT_EQ(std::isnan(c[i]), i / 5 == 1) << i;
}

TEST_P(LinearOps, BiasBackwardAddsColumnSums) {
  for (int64_t tokens : {1, 5, 64, 257}) {
    for (int64_t padding : {0, 3}) {
      const int64_t n = 37;
      const Values dy = rounded_to(dtype(), random_values(1, tokens * n));
      const Values before = rounded_to(DType::f32, random_values(2, n));
      Placed pdy(backend(), dtype(), {tokens, n}, dy, padding),
          dbias(backend(), DType::f32, {n}, before);
      backend().bias_backward(pdy, dbias);
      Values expected = before;
      for (int64_t i = 0; i < tokens * n; ++i) expected.data()[i % n] += dy.data()[i];
      // At most `tokens` terms of size 1 are added in f32.
      const Comparison c = compare(dbias.read(), expected);
      EXPECT_LE(c.max_error,
                static_cast<double>(tokens + 1) * static_cast<double>(tokens + 1) * 0x1p-25)
          << c.str();
      EXPECT_EQ(c.compared, n);
    }
  }
}

TEST_P(LinearOps, EmbeddingCopiesRowsExactly) {
  const int64_t vocab = 19, hidden = 33;
  const std::vector<int32_t> ids = {0, 18, 7, 7, 3};
  const Values table = rounded_to(dtype(), random_values(1, vocab * hidden));
  for (int64_t padding : {0, 4}) {
    Placed ptable(backend(), dtype(), {vocab, hidden}, table),
        y(backend(), dtype(), {5, hidden}, padding);
    Tensor pids = upload_ids(backend(), ids);
    backend().embedding_forward(ptable, pids, y);
    EXPECT_EQ(y.read(), reference::embedding_forward(table, ids, hidden));
    EXPECT_TRUE(y.padding_intact());
  }
}

TEST_P(LinearOps, EmbeddingBackwardAddsRepeatedIds) {
  const int64_t vocab = 5, tokens = 200;  // each id about forty times
  for (int64_t hidden : {1, 33, 64, 130}) {
    const std::vector<int32_t> ids = random_ids(1, tokens, vocab - 1);  // the last row gets nothing
    const Values dy = rounded_to(dtype(), random_values(2, tokens * hidden));
    const Values before = rounded_to(DType::f32, random_values(3, vocab * hidden));
    Placed pdy(backend(), dtype(), {tokens, hidden}, dy, 3),
        dtable(backend(), DType::f32, {vocab, hidden}, before);
    Tensor pids = upload_ids(backend(), ids);
    backend().embedding_backward(pdy, pids, dtable);
    const Values expected =
        reference::sum(before, reference::embedding_backward(dy, ids, vocab, hidden));
    // Some 70 terms of size 1 at most go into one sum.
    EXPECT_TRUE(close_to_largest(dtable.read(), expected, 70 * 0x1p-24)) << "hidden " << hidden;
  }
}

RINGBOLT_FOR_EACH_BACKEND(LinearOps);

}  // namespace
}  // namespace ringbolt
