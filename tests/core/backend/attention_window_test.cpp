// Slices with a left diagonal (sliding windows) on every device against the double-precision
// reference, forward and backward.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/backend_cases.h"
#include "tests/support/compare.h"
#include "tests/support/placed.h"
#include "tests/support/printers.h"
#include "tests/support/reference/attention.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::AttentionShape;
using reference::Values;
using Mask = AttentionSlice::Mask;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class AttentionWindows : public BackendTest {
 protected:
  /// As attention_test.cpp has it: relative to the norm, f32 logits' error, or a rounding of
  /// probabilities to bf16.
  double bound() const { return dtype() == DType::bf16 ? 0x1p-8 : 2e-6; }

  void expect_reference(const AttentionShape& s, const std::vector<AttentionSlice>& slices,
                        double cancels = 1) {
    const auto values = [&](uint64_t stream, int64_t rows, int64_t heads) {
      return rounded_to(dtype(), random_values(stream, rows * heads * s.head_dim));
    };
    const Values q = values(1, s.queries, s.heads), dout = values(4, s.queries, s.heads);
    const Values k = values(2, s.keys, s.kv_heads), v = values(3, s.keys, s.kv_heads);
    const float scale = 3 / std::sqrt(static_cast<float>(s.head_dim));
    const auto wide = static_cast<double>(scale);
    const reference::Attention expected = attention_forward(slices, q, k, v, wide, s);
    const Shape heads{s.queries, s.heads, s.head_dim}, rows{s.queries, s.heads},
        keys{s.keys, s.kv_heads, s.head_dim};
    Placed q_(backend(), dtype(), heads, q), k_(backend(), dtype(), keys, k),
        v_(backend(), dtype(), keys, v);
    Placed out(backend(), DType::f32, heads, Values(q.size(), 0.0));
    Placed lse(backend(), DType::f32, rows, Values(expected.lse.size(), -kInfinity));
    backend().attention_forward(slices, q_, k_, v_, scale, out, lse);
    EXPECT_TRUE(close_in_norm(out.read(), expected.out, bound()));
    EXPECT_TRUE(close_to_largest(lse.read(), expected.lse, 1e-6));

    const auto gradients = attention_backward(slices, q, k, v, dout, wide, s);
    Placed dout_(backend(), dtype(), heads, dout),
        merged(backend(), DType::f32, rows, expected.lse);
    Placed delta(backend(), DType::f32, rows, attention_delta(dout, expected.out, s));
    Placed dq(backend(), DType::f32, heads, Values(q.size(), 0.0));
    Placed dk(backend(), DType::f32, keys, Values(k.size(), 0.0)),
        dv(backend(), DType::f32, keys, Values(k.size(), 0.0));
    backend().attention_backward(slices, q_, k_, v_, dout_, merged, delta, scale, dq, dk, dv);
    EXPECT_TRUE(close_in_norm(dq.read(), gradients.dq, cancels * bound()));
    EXPECT_TRUE(close_in_norm(dk.read(), gradients.dk, cancels * bound()));
    EXPECT_TRUE(close_in_norm(dv.read(), gradients.dv, bound()));
  }
};

TEST_P(AttentionWindows, OfEveryWidthMatchTheReference) {
  for (const int64_t width : {1, 2, 7, 64, 129, 200, 331, 1000}) {
    SCOPED_TRACE(width);
    // With one key a row dq and dk are 0: what is left is the rounding of dP - delta, summed over
    // all elements.
    const double cancels = width == 1 ? 8 : 1;
    expect_reference({331, 331, 2, 1, 16}, {{0, 331, 0, 331, Mask::causal, 0, -width}}, cancels);
  }
}

TEST_P(AttentionWindows, AndWhatLiesBeyondMakeTheWhole) {
  // Near and far in one call: their sum is causal attention, which the reference forms from the
  // same list.
  for (const int64_t head_dim : {2, 66, 128}) {
    SCOPED_TRACE(head_dim);
    expect_reference({157, 157, 4, 2, head_dim},
                     {{0, 157, 0, 157, Mask::causal, 0, -33}, {0, 157, 0, 157, Mask::causal, -33}});
  }
}

TEST_P(AttentionWindows, BetweenBlocksOfARingMatchTheReference) {
  // Queries after the keys, so that the near end is in sight, or not; before them; and beyond all
  // of them.
  for (const int64_t diagonal : {-40, 0, 60, 90, 203}) {
    for (const int64_t width : {5, 70, 150}) {
      SCOPED_TRACE(concat(diagonal, " x ", width));
      expect_reference({97, 203, 3, 3, 24},
                       {{3, 96, 1, 202, Mask::causal, diagonal, diagonal - width}});
    }
  }
  for (const int64_t left : {-150, -50, 0, 80, 190}) {
    SCOPED_TRACE(left);
    expect_reference({131, 203, 3, 1, 24}, {{3, 130, 1, 202, Mask::full, 0, left}});
  }
}

TEST_P(AttentionWindows, OfPackedDocumentsAndOneQueryMatchTheReference) {
  expect_reference({150, 150, 2, 2, 40}, {{0, 41, 0, 41, Mask::causal, 0, -11},
                                          {41, 42, 41, 42, Mask::causal, 0, -11},
                                          {42, 150, 42, 150, Mask::causal, 0, -64}});
  expect_reference({1, 1500, 8, 2, 32},
                   {{0, 1, 0, 1500, Mask::causal, 1499, 1499 - 700}});  // decoding
}

RINGBOLT_FOR_EACH_BACKEND(AttentionWindows);

}  // namespace
}  // namespace ringbolt
