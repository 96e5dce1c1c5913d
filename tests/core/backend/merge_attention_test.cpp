// Merging two results of attention, on every device, against attention over all of the keys in
// double precision.
#include <algorithm>
#include <cmath>
#include <limits>

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

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class MergeAttention : public BackendTest {};

TEST_P(MergeAttention, OfTwoPartsIsAttentionOverAllKeys) {
  for (const int64_t head_dim : {2, 8, 63, 128, 200}) {
    for (const int64_t padding : {0, 5}) {
      const AttentionShape shape{13, 29, 3, 1, head_dim};
      const double scale = 30 / std::sqrt(static_cast<double>(head_dim));  // log-sum-exps far apart
      const auto values = [&](uint64_t stream, int64_t n) {
        return rounded_to(DType::f32, random_values(stream, n));
      };
      const Values q = values(1, shape.queries * shape.heads * head_dim);
      const Values k = values(2, shape.keys * head_dim);
      const Values v = values(3, shape.keys * head_dim);
      // Near and far keys; the first rows see none that are far, the last ones none that are near,
      // row 5 none at all.
      const std::vector<AttentionSlice> near{{0, 5, 11, 29}, {6, 9, 11, 29}};
      const std::vector<AttentionSlice> far{{3, 5, 0, 11}, {6, 13, 0, 11}};
      std::vector<AttentionSlice> all = near;
      all.insert(all.end(), far.begin(), far.end());
      const auto attend = [&](SliceList slices) {
        return attention_forward(slices, q, k, v, scale, shape);
      };
      const reference::Attention a = attend(near);
      const reference::Attention b = attend(far);
      const reference::Attention expected = attend(all);
      const Shape rows{shape.queries, shape.heads};
      const Shape heads{shape.queries, shape.heads, head_dim};
      // Where one of the two has no key, its output is not read.
      Values a_out = a.out;
      Values b_out = b.out;
      const double nan = std::numeric_limits<double>::quiet_NaN();
      int unread = 0;
      for (size_t i = 0; i < a_out.size(); ++i) {
        const size_t row = i / static_cast<size_t>(head_dim);
        if (a.lse[row] == -kInfinity && b.lse[row] != -kInfinity) {
          a_out[i] = nan;
          ++unread;
        }
        if (b.lse[row] == -kInfinity) b_out[i] = nan;
      }
      EXPECT_EQ(unread, 4 * shape.heads * head_dim);  // rows 9 to 12
      Placed out(backend(), DType::f32, heads, a_out, padding),
          lse(backend(), DType::f32, rows, a.lse, padding);
      Placed other(backend(), DType::f32, heads, b_out, padding),
          other_lse(backend(), DType::f32, rows, b.lse);
      backend().merge_attention(other, other_lse, out, lse);
      // Log-sum-exps of up to 50 are off by 50 * 2^-24 as they come, weights by so much; a few
      // roundings besides.
      EXPECT_TRUE(close_to_largest(out.read(), expected.out, 70 * 0x1p-24)) << head_dim;
      Values merged = lse.read();
      Values known = expected.lse;
      for (size_t i = 0; i < known.size(); ++i) {
        if (known[i] == -kInfinity) {
          EXPECT_EQ(merged[i], -kInfinity);
          merged[i] = known[i] = 0;
        }
      }
      EXPECT_EQ(std::count(known.begin(), known.end(), 0.0), shape.heads);
      EXPECT_TRUE(close_to_largest(merged, known, 4 * 0x1p-24));
      EXPECT_TRUE(out.padding_intact() && lse.padding_intact());
    }
  }
}

RINGBOLT_FOR_EACH_BACKEND(MergeAttention);

}  // namespace
}  // namespace ringbolt
