// Attention of every device against the double-precision reference, and its promises: continuation,
// rows without keys, bit-equality.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/backend_cases.h"
#include "tests/support/compare.h"
#include "tests/support/finite_difference.h"
#include "tests/support/placed.h"
#include "tests/support/printers.h"
#include "tests/support/reference/attention.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::AttentionShape;
using reference::Values;
using Mask = AttentionSlice::Mask;
using Slices = std::vector<AttentionSlice>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Problem {
  AttentionShape shape;
  Slices slices;
  float scale;
  Values q, k, v, dout;
};

Slices causal_square(int64_t n) { return {{0, n, 0, n, Mask::causal, 0}}; }

class AttentionOps : public BackendTest {
 protected:
  /// Inputs uniform in [-1, 1], rounded to A; logits of deviation about 1.
  Problem problem(const AttentionShape& s, const Slices& slices, uint64_t seed = 1) const {
    const auto values = [&](uint64_t stream, int64_t rows, int64_t heads) {
      return rounded_to(dtype(), random_values(seed * 10 + stream, rows * heads * s.head_dim));
    };
    return {s,
            slices,
            3 / std::sqrt(static_cast<float>(s.head_dim)),
            values(1, s.queries, s.heads),
            values(2, s.keys, s.kv_heads),
            values(3, s.keys, s.kv_heads),
            values(4, s.queries, s.heads)};
  }

  Shape query_shape(const Problem& p) const {
    return {p.shape.queries, p.shape.heads, p.shape.head_dim};
  }
  Shape key_shape(const Problem& p) const {
    return {p.shape.keys, p.shape.kv_heads, p.shape.head_dim};
  }
  Shape row_shape(const Problem& p) const { return {p.shape.queries, p.shape.heads}; }

  struct Result {
    Values out, lse;
  };

  /// One call after begin_attention; `padding` elements between the rows of every operand.
  Result forward(Backend& backend, const Problem& p, DType out_dtype = DType::f32,
                 int64_t padding = 0) const {
    Placed q(backend, dtype(), query_shape(p), p.q, padding);
    Placed k(backend, dtype(), key_shape(p), p.k, padding);
    Placed v(backend, dtype(), key_shape(p), p.v, padding);
    const Shape shape = query_shape(p);
    Placed out(backend, out_dtype, shape, Values(static_cast<size_t>(shape.elements()), 0.0),
               padding);
    Placed lse(backend, DType::f32, row_shape(p),
               Values(static_cast<size_t>(row_shape(p).elements()), -kInfinity));
    backend.attention_forward(p.slices, q, k, v, p.scale, out, lse);
    EXPECT_TRUE(out.padding_intact());
    return {out.read(), lse.read()};
  }

  struct Gradients {
    Values dq, dk, dv;
  };

  /// One call that adds to gradients which hold `before` everywhere.
  Gradients backward(Backend& backend, const Problem& p, const reference::Attention& merged,
                     double before = 0, int64_t padding = 0) const {
    Placed q(backend, dtype(), query_shape(p), p.q, padding);
    Placed k(backend, dtype(), key_shape(p), p.k, padding);
    Placed v(backend, dtype(), key_shape(p), p.v, padding);
    Placed dout(backend, dtype(), query_shape(p), p.dout, padding);
    Placed lse(backend, DType::f32, row_shape(p), merged.lse);
    Placed delta(backend, DType::f32, row_shape(p),
                 reference::attention_delta(p.dout, merged.out, p.shape));
    Placed dq(backend, DType::f32, query_shape(p), Values(p.q.size(), before), padding);
    Placed dk(backend, DType::f32, key_shape(p), Values(p.k.size(), before), padding);
    Placed dv(backend, DType::f32, key_shape(p), Values(p.v.size(), before), padding);
    backend.attention_backward(p.slices, q, k, v, dout, lse, delta, p.scale, dq, dk, dv);
    EXPECT_TRUE(dq.padding_intact() && dk.padding_intact() && dv.padding_intact());
    return {dq.read(), dk.read(), dv.read()};
  }

  reference::Attention expected_forward(const Problem& p) const {
    return reference::attention_forward(p.slices, p.q, p.k, p.v, static_cast<double>(p.scale),
                                        p.shape);
  }

  /// Relative to the tensor's norm. f32: the logits' error of a few 2^-24, times their size of a
  /// few. bf16: one rounding of the probabilities, in backward of dS too, each 2^-8 at most, before
  /// it averages out.
  double bound() const { return dtype() == DType::bf16 ? 0x1p-8 : 2e-6; }

  void expect_forward(const Problem& p, const Result& actual, const reference::Attention& expected,
                      DType out_dtype = DType::f32) const {
    EXPECT_TRUE(close_in_norm(actual.out, expected.out,
                              bound() + (out_dtype == DType::bf16 ? eps(out_dtype) : 0)))
        << describe(p);
    // Nothing is rounded to bf16 on the way to lse.
    EXPECT_TRUE(close_to_largest(actual.lse, expected.lse, 1e-6)) << describe(p);
  }

  void expect_backward(const Problem& p) {
    const reference::Attention merged = expected_forward(p);
    const double before = 0.25;
    const int64_t padding = 8;  // rows stay aligned to 16 bytes: cuDNN takes no others
    const Gradients actual = backward(backend(), p, merged, before, padding);
    auto expected = reference::attention_backward(p.slices, p.q, p.k, p.v, p.dout,
                                                  static_cast<double>(p.scale), p.shape);
    for (Values* x : {&expected.dq, &expected.dk, &expected.dv}) {
      for (double& value : *x) value += before;
    }
    EXPECT_TRUE(close_in_norm(actual.dq, expected.dq, bound())) << describe(p);
    EXPECT_TRUE(close_in_norm(actual.dk, expected.dk, bound())) << describe(p);
    EXPECT_TRUE(close_in_norm(actual.dv, expected.dv, bound())) << describe(p);
  }

  static void expect_finite(const Gradients& gradients) {
    for (const Values* x : {&gradients.dq, &gradients.dk, &gradients.dv}) {
      EXPECT_TRUE(
          std::all_of(x->begin(), x->end(), [](double value) { return std::isfinite(value); }));
    }
  }

  static std::string describe(const Problem& p) {
    return concat("T ", p.shape.queries, ", Tk ", p.shape.keys, ", H ", p.shape.heads, ", K ",
                  p.shape.kv_heads, ", D ", p.shape.head_dim, ", ", p.slices.size(), " slices");
  }
};

const std::vector<AttentionShape>& every_head_dim() {
  static const std::vector<AttentionShape> shapes = {
      {131, 131, 2, 2, 8},   {67, 67, 4, 2, 16},    {201, 201, 8, 1, 48}, {131, 131, 4, 4, 64},
      {131, 131, 4, 2, 64},  {97, 97, 8, 1, 64},    {131, 131, 8, 4, 80}, {131, 131, 4, 2, 128},
      {259, 259, 8, 1, 128}, {101, 101, 2, 1, 256}, {77, 77, 8, 1, 256},  {50, 50, 2, 2, 2},
      {53, 53, 3, 1, 10},    {5, 5, 1, 1, 34},      {1, 1, 2, 1, 64},     {210, 210, 200, 1, 16},
  };
  return shapes;
}

TEST_P(AttentionOps, ForwardMatchesTheReferenceForEveryHeadDimensionAndGrouping) {
  for (const AttentionShape& shape : every_head_dim()) {
    const Problem p = problem(shape, causal_square(shape.queries));
    const reference::Attention expected = expected_forward(p);
    expect_forward(p, forward(backend(), p, DType::f32, 8), expected);  // rows aligned to 16 bytes
    if (dtype() == DType::bf16) {
      expect_forward(p, forward(backend(), p, DType::bf16, 10), expected, DType::bf16);
    }
  }
}

TEST_P(AttentionOps, BackwardAddsTheReferenceGradientsForEveryHeadDimensionAndGrouping) {
  for (const AttentionShape& shape : every_head_dim()) {
    expect_backward(problem(shape, causal_square(shape.queries)));
  }
}

TEST_P(AttentionOps, LengthsOfWholeAndOfBrokenTilesMatchTheReference) {
  for (const int64_t n : {64, 128, 192, 256, 320, 384}) {
    for (const AttentionShape& shape :
         {AttentionShape{n, n, 4, 2, 64}, AttentionShape{n, n, 2, 2, 128}}) {
      const Problem p = problem(shape, causal_square(n));
      expect_forward(p, forward(backend(), p, dtype()), expected_forward(p), dtype());
      expect_backward(p);
      const Problem full = problem(shape, {{0, n, 0, n, Mask::full, 0}});
      expect_forward(full, forward(backend(), full), expected_forward(full));
      expect_backward(full);
    }
  }
}

TEST_P(AttentionOps, SequencesOfOneLengthMatchTheReference) {
  for (const int64_t n : {128, 256}) {
    const std::vector<int64_t> offsets{0, n, 2 * n, 3 * n};
    const Problem p = problem({3 * n, 3 * n, 4, 2, 64}, causal_slices(offsets));
    expect_forward(p, forward(backend(), p, dtype()), expected_forward(p), dtype());
    expect_backward(p);
  }
}

/// Lists of slices over 150 queries and 230 keys, each pair at most once.
std::vector<Slices> lists() {
  return {
      {{0, 150, 0, 230, Mask::full, 0}},
      {{0, 150, 0, 230, Mask::causal, 80}},  // chunked prefill
      {{0, 150, 0, 150, Mask::causal, -1}},  // a striped block of a later rank: row 0 sees nothing
      {{0, 150, 0, 230, Mask::causal, -149}},  // one pair
      {{0, 150, 0, 230, Mask::causal, -150}},  // none
      {{0, 150, 0, 230, Mask::causal, 500}},   // as if full
      {{7, 8, 3, 4, Mask::full, 0}},
      {{0, 0, 0, 230, Mask::full, 0}, {3, 9, 5, 5, Mask::full, 0}},  // empty rectangles
      {{75, 150, 0, 75, Mask::full, 0},
       {75, 150, 75, 150, Mask::causal, 0},
       {0, 75, 0, 75, Mask::causal, 0}},
      {{20, 131, 191, 230, Mask::causal, -13},
       {100, 150, 1, 66, Mask::causal, 3},
       {0, 149, 67, 190, Mask::full, 0}},
      {},
  };
}

TEST_P(AttentionOps, SlicesOfEveryKindMatchTheReference) {
  for (const Slices& slices : lists()) {
    const Problem p = problem({150, 230, 4, 2, 16}, slices);
    const reference::Attention expected = expected_forward(p);
    expect_forward(p, forward(backend(), p), expected);
    if (!slices.empty()) expect_backward(p);
  }
}

TEST_P(AttentionOps, RowsWithoutKeysKeepWhatTheyHeld) {
  // Rows 0 to 9 see nothing; some have seen keys before, some have not.
  const Problem p = problem({40, 30, 2, 1, 16}, {{10, 40, 0, 30, Mask::full, 0}});
  Values out = random_values(5, 40 * 2 * 16);
  Values lse(40 * 2, -kInfinity);
  for (size_t i = 0; i < 10; ++i) lse[i] = 3.125 + static_cast<double>(i);
  std::fill(out.begin() + 10 * 16, out.end(), 0.0);
  out = rounded_to(DType::f32, out);
  Placed placed_out(backend(), DType::f32, query_shape(p), out);
  Placed placed_lse(backend(), DType::f32, row_shape(p), lse);
  Placed q(backend(), dtype(), query_shape(p), p.q), k(backend(), dtype(), key_shape(p), p.k),
      v(backend(), dtype(), key_shape(p), p.v);
  backend().attention_forward(p.slices, q, k, v, p.scale, placed_out, placed_lse);
  const Values new_out = placed_out.read();
  const Values new_lse = placed_lse.read();
  for (size_t i = 0; i < 10 * 2 * 16; ++i) EXPECT_EQ(new_out[i], out[i]) << i;
  for (size_t i = 0; i < 10 * 2; ++i) EXPECT_EQ(new_lse[i], lse[i]) << i;
  EXPECT_NE(new_lse[20], -kInfinity);
}

TEST_P(AttentionOps, RowsWithoutKeysContributeNoGradient) {
  const Problem p = problem({40, 30, 2, 1, 16}, {{0, 40, 0, 30, Mask::full, 0}});
  reference::Attention merged = expected_forward(p);
  std::fill(merged.lse.begin(), merged.lse.end(), -kInfinity);
  const Gradients none = backward(backend(), p, merged);
  for (const Values* x : {&none.dq, &none.dk, &none.dv}) {
    EXPECT_TRUE(std::all_of(x->begin(), x->end(), [](double value) { return value == 0; }));
  }
}

TEST_P(AttentionOps, PiecesOfTheKeysInSeveralCallsMatchTheWhole) {
  const AttentionShape shape{173, 173, 4, 2, 64};
  const Problem whole = problem(shape, causal_square(173));
  Placed q(backend(), dtype(), query_shape(whole), whole.q),
      k(backend(), dtype(), key_shape(whole), whole.k),
      v(backend(), dtype(), key_shape(whole), whole.v);
  Tensor out = backend().allocate(DType::f32, query_shape(whole));
  Tensor lse = backend().allocate(DType::f32, row_shape(whole));
  backend().begin_attention(out, lse);
  // Bands of keys, last first: early rows see nothing for a while.
  const std::vector<int64_t> edges{173, 120, 119, 64, 5, 0};
  for (size_t i = 0; i + 1 < edges.size(); ++i) {
    const Slices band{{0, 173, edges[i + 1], edges[i], Mask::causal, -edges[i + 1]}};
    backend().attention_forward(band, q, k, v, whole.scale, out, lse);
  }
  const auto read = [&](const Tensor& x) { return as_doubles(download_f32(backend(), x)); };
  expect_forward(whole, {read(out), read(lse)}, expected_forward(whole));
}

TEST_P(AttentionOps, PackedDocumentsMatchTheReference) {
  std::vector<int64_t> offsets{0};
  for (const int64_t n : {1, 1, 1, 30, 2, 0, 200, 1, 65, 1, 1, 7, 90})
    offsets.push_back(offsets.back() + n);
  const int64_t t = offsets.back();
  const Problem p = problem({t, t, 4, 2, 64}, causal_slices(offsets));
  expect_forward(p, forward(backend(), p), expected_forward(p));
  expect_backward(p);
}

TEST_P(AttentionOps, DocumentsOfOneTokenReturnTheirValue) {
  std::vector<int64_t> offsets(301);
  std::iota(offsets.begin(), offsets.end(), 0);
  const Problem p = problem({300, 300, 1, 1, 16}, causal_slices(offsets));
  const Result result = forward(backend(), p);
  EXPECT_TRUE(close_to_largest(result.out, p.v, 0x1p-23));  // weight 1, one division
}

TEST_P(AttentionOps, DecodingMatchesTheReference) {
  for (const int64_t keys : {1, 63, 1024, 4099}) {
    for (const AttentionShape& shape :
         {AttentionShape{1, keys, 8, 8, 64}, AttentionShape{1, keys, 8, 1, 128},
          AttentionShape{2, keys, 4, 2, 16}, AttentionShape{1, keys, 1, 1, 256}}) {
      const Problem p =
          problem(shape, {{0, shape.queries, 0, keys, Mask::causal, keys - shape.queries}});
      expect_forward(p, forward(backend(), p, dtype()), expected_forward(p), dtype());
    }
  }
}

TEST_P(AttentionOps, SequencesOf4096MatchTheReference) {
  for (const AttentionShape& shape :
       {AttentionShape{4096, 4096, 1, 1, 64}, AttentionShape{150, 4096, 2, 1, 128}}) {
    const Problem p = problem(
        shape, {{0, shape.queries, 0, shape.keys, Mask::causal, shape.keys - shape.queries}});
    expect_forward(p, forward(backend(), p), expected_forward(p));
    expect_backward(p);
  }
}

TEST_P(AttentionOps, BackwardMatchesFiniteDifferences) {
  Problem p = problem({5, 5, 2, 1, 8}, causal_square(5));
  const Gradients actual = backward(backend(), p, expected_forward(p));
  const auto loss = [&] {
    const Values out = expected_forward(p).out;
    return std::inner_product(out.begin(), out.end(), p.dout.begin(), 0.0);
  };
  EXPECT_TRUE(close_in_norm(actual.dq, finite_difference(p.q, loss), bound()));
  EXPECT_TRUE(close_in_norm(actual.dk, finite_difference(p.k, loss), bound()));
  EXPECT_TRUE(close_in_norm(actual.dv, finite_difference(p.v, loss), bound()));
}

/// Key j's first element is `logit(j)`, and only the first elements are not zero: with scale 1 the
/// logits are these.
Problem with_logits(Problem p, const std::function<double(int64_t)>& logit) {
  p.scale = 1;
  const auto d = static_cast<size_t>(p.shape.head_dim);
  std::fill(p.q.begin(), p.q.end(), 0.0);
  std::fill(p.k.begin(), p.k.end(), 0.0);
  for (size_t i = 0; i < p.q.size(); i += d) p.q[i] = 1;
  for (size_t j = 0; j < p.k.size(); j += d) p.k[j] = logit(static_cast<int64_t>(j / d));
  return p;
}

TEST_P(AttentionOps, ExtremeLogitsStayFinite) {
  const Problem base = problem({130, 130, 1, 1, 16}, causal_square(130));
  // All exact in bf16, so that the references see the same.
  const std::vector<std::pair<const char*, std::function<double(int64_t)>>> cases = {
      {"all -104", [](int64_t) { return -104.0; }},
      {"all +80", [](int64_t) { return 80.0; }},
      {"identical", [](int64_t) { return 0.0; }},
      {"rising by 8 a key", [](int64_t j) { return static_cast<double>(8 * (j % 128)); }},
      {"falling by 8 a key", [](int64_t j) { return static_cast<double>(-8 * (j % 128)); }},
      {"one key rules", [](int64_t j) { return j == 77 ? 1e4 : -1e4; }},
      {"-1e30 and up", [](int64_t j) { return j % 2 == 0 ? -1e30 : 0.0; }},
  };
  for (const auto& [name, logit] : cases) {
    Problem p = with_logits(base, logit);
    p.k = rounded_to(dtype(), p.k);
    SCOPED_TRACE(name);
    const Result actual = forward(backend(), p);
    const reference::Attention expected = expected_forward(p);
    // A logit of size L is known to L * 2^-24 in f32, and so are its weight and lse.
    EXPECT_TRUE(close_in_norm(actual.out, expected.out, bound() + 100 * 0x1p-23));
    EXPECT_TRUE(close_to_largest(actual.lse, expected.lse, 1e-6));
    expect_finite(backward(backend(), p, expected));
  }
}

TEST_P(AttentionOps, TinyWeightsInABrokenTileGiveFiniteGradients) {
  // e^(0 - lse) overflows for keys that are not there: a kernel that does not mask them returns
  // NaN.
  for (const int64_t n : {64, 192, 200}) {
    Problem p =
        with_logits(problem({n, n, 1, 1, 64}, causal_square(n)), [](int64_t) { return -104.0; });
    const reference::Attention merged = expected_forward(p);
    const Gradients actual = backward(backend(), p, merged, 0, 8);
    const auto expected = reference::attention_backward(p.slices, p.q, p.k, p.v, p.dout,
                                                        static_cast<double>(p.scale), p.shape);
    EXPECT_TRUE(close_in_norm(actual.dv, expected.dv, bound() + 100 * 0x1p-23)) << n;
    expect_finite(actual);
  }
}

TEST_P(AttentionOps, ResultsAreBitEqualForOneTwoAndThreeThreads) {
  if (GetParam().on_cuda() && dtype() == DType::bf16) {
    GTEST_SKIP() << "cuDNN adds to dq in no fixed order";
  }
  // One key/value head: every block of keys adds to the same dq.
  for (const Problem& p : {problem({700, 700, 2, 1, 64}, causal_square(700)),
                           problem({150, 230, 6, 3, 16}, lists()[9]),
                           problem({1, 5000, 2, 1, 64}, {{0, 1, 0, 5000, Mask::full, 0}})}) {
    const reference::Attention merged = [&] {
      Result whole = forward(backend(), p);
      return reference::Attention{whole.out, whole.lse};
    }();
    const Gradients gradients = backward(backend(), p, merged);
    for (const int threads : {1, 2, 3, 2}) {
      const std::unique_ptr<Backend> other = make_backend(GetParam(), threads);
      const Result again = forward(*other, p);
      EXPECT_EQ(again.out, merged.out) << threads;
      EXPECT_EQ(again.lse, merged.lse) << threads;
      const Gradients other_gradients = backward(*other, p, merged);
      EXPECT_EQ(other_gradients.dq, gradients.dq) << threads;
      EXPECT_EQ(other_gradients.dk, gradients.dk) << threads;
      EXPECT_EQ(other_gradients.dv, gradients.dv) << threads;
    }
  }
}

TEST_P(AttentionOps, RowsOutsideOfAllSlicesMayHoldAnything) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Problem clean = problem({150, 230, 4, 2, 16}, {{0, 131, 0, 201, Mask::causal, 70}});
  Problem dirty = clean;
  std::fill(dirty.q.begin() + 131 * 4 * 16, dirty.q.end(), nan);
  std::fill(dirty.dout.begin() + 131 * 4 * 16, dirty.dout.end(), nan);
  std::fill(dirty.k.begin() + 201 * 2 * 16, dirty.k.end(), nan);
  std::fill(dirty.v.begin() + 201 * 2 * 16, dirty.v.end(), nan);
  const reference::Attention merged = expected_forward(clean);
  const Result result = forward(backend(), clean);
  EXPECT_EQ(forward(backend(), dirty).out, result.out);
  const Gradients expected = backward(backend(), clean, merged);
  const Gradients actual = backward(backend(), dirty, merged);
  // cuDNN adds to dq in no fixed order: some elements round to the next bf16.
  const bool in_no_order = GetParam().on_cuda() && dtype() == DType::bf16;
  EXPECT_TRUE(close_in_norm(actual.dq, expected.dq, in_no_order ? 0x1p-8 : 0.0));
  EXPECT_EQ(actual.dk, expected.dk);
  EXPECT_EQ(actual.dv, expected.dv);
}

TEST_P(AttentionOps, CallsForProgressAndThrowsWhatItThrewAfterTheLastTile) {
  if (GetParam().on_cuda()) GTEST_SKIP() << "a device with streams never calls";
  const Problem p = problem({900, 900, 2, 2, 64}, causal_square(900));
  const Result quiet = forward(backend(), p);
  const reference::Attention merged{quiet.out, quiet.lse};
  const Gradients gradients = backward(backend(), p, merged);
  const std::thread::id caller = std::this_thread::get_id();
  int calls = 0;
  backend().set_progress([&] {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    ++calls;
  });
  EXPECT_EQ(forward(backend(), p).out, quiet.out);
  EXPECT_GT(calls, 0);
  calls = 0;
  EXPECT_EQ(backward(backend(), p, merged).dk, gradients.dk);
  EXPECT_GT(calls, 0);
  for (const bool forwards : {true, false}) {
    calls = 0;
    backend().set_progress([&] {
      ++calls;
      throw CommError("the other rank is gone");
    });
    if (forwards) {
      EXPECT_THROW(forward(backend(), p), CommError);
    } else {
      EXPECT_THROW(backward(backend(), p, merged), CommError);
    }
    EXPECT_EQ(calls, 1) << "an exchange that failed is not driven any more";
  }
  backend().set_progress({});
  EXPECT_EQ(forward(backend(), p).out, quiet.out);
}

RINGBOLT_FOR_EACH_BACKEND(AttentionOps);

}  // namespace
}  // namespace ringbolt
