// Attention and matrix products on operands of more than 2^31 elements: as large_tensors_test.cpp
// has it, rows far behind have the bits of the same rows alone.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/core/backend/large_tensors.h"
#include "tests/support/compare.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using Mask = AttentionSlice::Mask;

constexpr int64_t kHeads = 32, kKvHeads = 8, kHeadDim = 128;
constexpr int64_t kWidth = kHeads * kHeadDim;
constexpr int64_t kInWindow = 64;  // rows: one tile of every kernel, so that no order is left open
constexpr float kScale = 0.0625F;
constexpr PatternValues kWhole{-2, 2, true};

class LargeTensorsOfAttention : public LargeTest {
 protected:
  /// k and v lie in the first 2 K heads of x (T, H, D), which is q as well.
  static View keys(View x) { return x.slice_columns(0, kKvHeads); }
  static View values(View x) { return x.slice_columns(kKvHeads, 2 * kKvHeads); }
  int64_t rows() const { return rows_beyond(kWidth); }
  std::vector<RowRange> windows() const { return windows_of(rows(), kWidth, kInWindow); }

  /// Queries of one window and the keys that they see: those of another, or causally their own.
  struct Pair {
    RowRange queries, keys;
    Mask mask;
    AttentionSlice slice() const {
      return {queries.first, queries.second, keys.first, keys.second, mask};
    }
    static AttentionSlice alone(Mask mask) { return {0, kInWindow, 0, kInWindow, mask}; }
  };
  std::vector<Pair> pairs() const {
    const auto w = windows();
    std::vector<Pair> all;
    for (size_t i = 0; i < w.size(); ++i) {
      if (i % 2 == 0) {
        all.push_back({w[i], w[(i + 2) % w.size()], Mask::full});
      } else {
        all.push_back({w[i], w[i], Mask::causal});
      }
    }
    return all;
  }
  static std::vector<AttentionSlice> slices_of(const std::vector<Pair>& pairs) {
    std::vector<AttentionSlice> slices;
    for (const Pair& pair : pairs) slices.push_back(pair.slice());
    return slices;
  }
  /// Memory of which only the windows are written.
  Tensor in_windows(const Pattern& pattern) {
    Tensor x = backend().allocate(pattern.dtype(), pattern.shape(rows()));
    for (const auto& [begin, end] : windows())
      pattern.write(x.view().slice_rows(begin, end), begin);
    return x;
  }
  static View at(Tensor& x, RowRange range) {
    return x.view().slice_rows(range.first, range.second);
  }
};

TEST_P(LargeTensorsOfAttention, AreAttendedTo) {
  const Pattern pattern = of({1, kHeads, kHeadDim}, 1);
  Tensor x = in_windows(pattern);
  Tensor out = backend().allocate(DType::f32, pattern.shape(rows()));
  Tensor lse = backend().allocate(DType::f32, {rows(), kHeads});
  backend().begin_attention(out, lse);
  const auto all = pairs();
  const auto slices = slices_of(all);
  ASSERT_GE(slices.size(), 4U);
  backend().attention_forward(slices, x, keys(x), values(x), kScale, out, lse);
  for (const Pair& pair : all) {
    Tensor q = pattern.rows(pair.queries), kv = pattern.rows(pair.keys);
    Tensor own = backend().allocate(DType::f32, q.shape());
    Tensor own_lse = backend().allocate(DType::f32, {kInWindow, kHeads});
    backend().begin_attention(own, own_lse);
    const AttentionSlice slice = Pair::alone(pair.mask);
    backend().attention_forward({&slice, 1}, q, keys(kv), values(kv), kScale, own, own_lse);
    EXPECT_TRUE(same_bits(backend(), at(out, pair.queries), own)) << pair.queries.first;
    EXPECT_TRUE(same_bits(backend(), at(lse, pair.queries), own_lse)) << pair.queries.first;
  }
  // What no slice names has seen no keys.
  const RowRange between{windows()[0].second, windows()[0].second + 3};
  Tensor untouched = zeros(DType::f32, pattern.shape(3));
  EXPECT_TRUE(same_bits(backend(), at(out, between), untouched));
}

TEST_P(LargeTensorsOfAttention, GetTheirGradients) {
  const Pattern pattern = of({1, kHeads, kHeadDim}, 1);
  const Pattern lses = f32({1, kHeads}, 2, {4, 5}), deltas = f32({1, kHeads}, 3);
  const Pattern before_q = f32({1, kHeads, kHeadDim}, 4),
                before_kv = f32({1, 2 * kKvHeads, kHeadDim}, 5);
  Tensor x = in_windows(pattern), lse = in_windows(lses), delta = in_windows(deltas);
  Tensor dq = in_windows(before_q), dkv = in_windows(before_kv);
  const auto all = pairs();
  const auto slices = slices_of(all);
  ASSERT_GE(slices.size(), 4U);
  // How a list is cut decides in which order up to 64 terms of 4 query heads are added.
  const auto near = [&](View result, View expected) {
    return close_to_largest(as_doubles(download_f32(backend(), result)),
                            as_doubles(download_f32(backend(), expected)), 256 * 0x1p-24);
  };
  backend().attention_backward(slices, x, keys(x), values(x), x, lse, delta, kScale, dq, keys(dkv),
                               values(dkv));
  for (const Pair& pair : all) {
    Tensor q = pattern.rows(pair.queries), kv = pattern.rows(pair.keys);
    Tensor own_lse = lses.rows(pair.queries), own_delta = deltas.rows(pair.queries);
    Tensor own_q = before_q.rows(pair.queries), own_kv = before_kv.rows(pair.keys);
    const AttentionSlice slice = Pair::alone(pair.mask);
    backend().attention_backward({&slice, 1}, q, keys(kv), values(kv), q, own_lse, own_delta,
                                 kScale, own_q, keys(own_kv), values(own_kv));
    EXPECT_TRUE(near(at(dq, pair.queries), own_q)) << pair.queries.first;
    const auto times_seen = std::count_if(
        all.begin(), all.end(), [&](const Pair& other) { return other.keys == pair.keys; });
    if (times_seen == 1) {
      EXPECT_TRUE(near(at(dkv, pair.keys), own_kv)) << pair.keys.first;
    }
  }
}

TEST_P(LargeTensorsOfAttention, AreMerged) {
  if (dtype() != DType::f32) GTEST_SKIP() << "of f32 only";
  const Pattern out = f32({1, kHeads, kHeadDim}, 1), other = f32({1, kHeads, kHeadDim}, 2);
  const Pattern lse = f32({1, kHeads}, 3), other_lse = f32({1, kHeads}, 4);
  expect_alike({{&out, Role::result},
                {&other, Role::input},
                {&lse, Role::result},
                {&other_lse, Role::input}},
               [&](auto& v) { backend().merge_attention(v[1], v[3], v[0], v[2]); });
}

TEST_P(LargeTensorsOfAttention, HaveDeltas) {
  const Pattern x = of({1, kHeads, kHeadDim}, 1), delta = f32({1, kHeads}, 2);
  expect_alike({{&x, Role::input}, {&delta, Role::result}},
               [&](auto& v) { backend().attention_delta(v[0], v[0], v[1]); });
}

TEST_P(LargeTensorsOfAttention, AreQuantized) {
  // The first element of each row is the largest of all: every few rows have the scale of the
  // whole.
  const Pattern x = of({1, kHeads, kHeadDim}, 1, {-1, 1, false, 4.0});
  const Pattern lses = f32({1, kHeads}, 2);
  const Tensor centre = f32({1, kKvHeads, kHeadDim}, 3).rows({0, 1});
  const View shift = View(const_cast<Tensor&>(centre)).reshape({kKvHeads, kHeadDim});
  struct Result {
    Tensor codes, scales, lse;
  };
  const auto run = [&](RowRange range) {
    const Tensor values = x.rows(range);
    Result r{backend().allocate(DType::e4m3, values.shape()), backend().allocate(DType::f32, {1}),
             lses.rows(range)};
    backend().quantize(values, r.codes, r.scales);
    backend().shift_lse({r.codes, r.scales}, shift, 0.5F, r.lse);
    return r;
  };
  Result whole = run({0, rows()});
  for (const RowRange& window : windows_of(rows(), kWidth, 5)) {
    const Result part = run(window);
    EXPECT_TRUE(same_bits(backend(), whole.scales, part.scales));
    EXPECT_TRUE(same_bits(backend(), at(whole.codes, window), part.codes)) << window.first;
    EXPECT_TRUE(same_bits(backend(), at(whole.lse, window), part.lse)) << window.first;
  }
}

TEST_P(LargeTensorsOfAttention, AreAttendedToInE4m3) {
  try {
    backend().require_e4m3_attention(E4m3Output::rounded);
  } catch (const UsageError& e) {
    GTEST_SKIP() << e.what();
  }
  const Pattern pattern = of({1, kHeads, kHeadDim}, 1, {-1, 1, false, 4.0});
  Tensor scale = backend().allocate(DType::f32, {1});
  const auto codes_of = [&](RowRange range, View codes) {
    backend().quantize(pattern.rows(range), codes, scale);
  };
  Tensor x = backend().allocate(DType::e4m3, pattern.shape(rows()));
  for (const RowRange& window : windows()) codes_of(window, at(x, window));
  Tensor out = backend().allocate(DType::f32, pattern.shape(rows()));
  Tensor lse = backend().allocate(DType::f32, {rows(), kHeads});
  for (const RowRange& window : windows())
    backend().begin_attention(at(out, window), at(lse, window));
  const auto all = pairs();
  const auto slices = slices_of(all);
  const auto attend = [&](SliceList list, View q, View kv, View to, View lses) {
    backend().attention_forward_e4m3(list, {q, scale}, {keys(kv), scale}, {values(kv), scale},
                                     kScale, E4m3Output::rounded, to, lses);
  };
  attend(slices, x, x, out, lse);
  for (const Pair& pair : all) {
    Tensor q = backend().allocate(DType::e4m3, pattern.shape(kInWindow));
    Tensor kv = backend().allocate(DType::e4m3, pattern.shape(kInWindow));
    codes_of(pair.queries, q);
    codes_of(pair.keys, kv);
    Tensor own = backend().allocate(DType::f32, q.shape());
    Tensor own_lse = backend().allocate(DType::f32, {kInWindow, kHeads});
    backend().begin_attention(own, own_lse);
    const AttentionSlice slice = Pair::alone(pair.mask);
    attend({&slice, 1}, q, kv, own, own_lse);
    EXPECT_TRUE(same_bits(backend(), at(out, pair.queries), own)) << pair.queries.first;
    EXPECT_TRUE(same_bits(backend(), at(lse, pair.queries), own_lse)) << pair.queries.first;
  }
}

// Products of whole numbers, exact in whatever order they are summed.
TEST_P(LargeTensorsOfAttention, AreMultiplied) {
  constexpr int64_t kFew = 8, kMany = 4104;
  const Pattern many = of({1, kMany}, 1, kWhole), few = of({1, kFew}, 2, kWhole);
  const Tensor weight = many.rows({0, kFew});  // (8, 4104)
  expect_alike({{&many, Role::input}, {&few, Role::result}}, [&](auto& v) {
    backend().matmul(v[0], Transpose::no, weight, Transpose::yes, v[1]);
  });
  expect_alike({{&many, Role::result}, {&few, Role::input}}, [&](auto& v) {
    backend().matmul(v[1], Transpose::no, weight, Transpose::no, v[0]);
  });
  const int64_t n = rows_beyond(kMany);
  const Tensor x = many.rows({0, n}), y = few.rows({0, n});
  Tensor c = backend().allocate(DType::f32, {kFew, kMany});
  backend().matmul(y, Transpose::yes, x, Transpose::no, c);
  EXPECT_TRUE(equal_each(download_f32(backend(), c), [&](int64_t i) {
    return sum_over_rows(
        n, [&](int64_t row) { return few.at(row, i / kMany) * many.at(row, i % kMany); });
  }));
}

INSTANTIATE_TEST_SUITE_P(Devices, LargeTensorsOfAttention, testing::ValuesIn(large_cases()),
                         case_name);

}  // namespace
}  // namespace ringbolt
