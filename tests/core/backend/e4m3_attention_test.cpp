// fp8 attention of every device: codes and scales exactly, attention against the double-precision
// reference that rounds the same operands and weights, and how far both are from attention without
// that rounding.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/backend_cases.h"
#include "tests/support/compare.h"
#include "tests/support/placed.h"
#include "tests/support/reference/e4m3.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::AttentionShape;
using reference::Values;
using Mask = AttentionSlice::Mask;
using Slices = std::vector<AttentionSlice>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Heads [begin, end) of x (rows, heads, D).
Values heads_of(const Values& x, int64_t heads, int64_t d, int64_t begin, int64_t end) {
  Values part;
  for (auto row = x.begin(); row != x.end(); row += heads * d)
    part.insert(part.end(), row + begin * d, row + end * d);
  return part;
}

class E4m3Attention : public BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    if (IsSkipped()) return;
    try {
      backend().require_e4m3_attention(E4m3Output::rounded);
    } catch (const UsageError& e) {
      GTEST_SKIP() << e.what();
    }
  }

  /// Codes of x (rows, heads, D) and their scales, strided rows among them.
  struct Codes {
    Tensor codes;
    Tensor scales;
    E4m3View part(int64_t g, int64_t parts) {
      const int64_t heads = codes.shape()[1] / parts;
      return {codes.view().slice_columns(g * heads, (g + 1) * heads),
              scales.view().slice_rows(g, g + 1)};
    }
  };
  Codes quantized(const Values& x, Shape shape, int64_t parts, int64_t padding = 0) {
    Placed placed(backend(), dtype(), shape, x, padding);
    Codes result{backend().allocate(DType::e4m3, shape), backend().allocate(DType::f32, {parts})};
    backend().quantize(placed, result.codes, result.scales);
    return result;
  }

  /// Logits of deviation about 1; values are larger than keys, and by heads different.
  struct Problem {
    AttentionShape shape;
    Slices slices;
    float scale;
    Values q, k, v;
  };
  Problem problem(const AttentionShape& s, const Slices& slices, uint64_t seed = 1) const {
    const auto values = [&](uint64_t stream, int64_t rows, int64_t heads, double most) {
      return rounded_to(dtype(),
                        random_values(seed * 10 + stream, rows * heads * s.head_dim, -most, most));
    };
    return {s,
            slices,
            3 / std::sqrt(static_cast<float>(s.head_dim)),
            values(1, s.queries, s.heads, 1),
            values(2, s.keys, s.kv_heads, 1),
            values(3, s.keys, s.kv_heads, 5)};
  }

  struct Result {
    Values out, lse;
  };
  /// k and v as parts of one buffer. Each list of `calls` goes on from the one before.
  Result run(const Problem& p, const std::vector<Slices>& calls, E4m3Output output,
             DType out_dtype = DType::f32) {
    const AttentionShape& s = p.shape;
    Values kv;
    const int64_t width = s.kv_heads * s.head_dim;
    for (int64_t row = 0; row < s.keys; ++row) {
      kv.insert(kv.end(), p.k.begin() + row * width, p.k.begin() + (row + 1) * width);
      kv.insert(kv.end(), p.v.begin() + row * width, p.v.begin() + (row + 1) * width);
    }
    Codes q = quantized(p.q, {s.queries, s.heads, s.head_dim}, 1, 8);
    Codes both = quantized(kv, {s.keys, 2 * s.kv_heads, s.head_dim}, 2);
    Placed out(backend(), out_dtype, {s.queries, s.heads, s.head_dim}, 8);
    Placed lse(backend(), DType::f32, {s.queries, s.heads});
    backend().begin_attention(out, lse);
    for (const Slices& slices : calls) {
      backend().attention_forward_e4m3(slices, q.part(0, 1), both.part(0, 2), both.part(1, 2),
                                       p.scale, output, out, lse);
    }
    EXPECT_TRUE(out.padding_intact());
    return {out.read(), lse.read()};
  }

  reference::E4m3Attention expected(const Problem& p) const {
    const auto rounded = [](const Values& x) {
      return reference::rounded_e4m3(x, reference::e4m3_scale(x));
    };
    return reference::attention_forward_e4m3(p.slices, rounded(p.q), rounded(p.k), rounded(p.v),
                                             static_cast<double>(p.scale), p.shape);
  }

  bool on_cpu() const { return !GetParam().on_cuda(); }

  /// An output that is not fp8: Hopper has none.
  bool has_wide_output() {
    try {
      backend().require_e4m3_attention(E4m3Output::wide);
      return true;
    } catch (const UsageError&) {
      return false;
    }
  }
  std::vector<E4m3Output> outputs() {
    if (!has_wide_output()) return {E4m3Output::rounded};
    return {E4m3Output::wide, E4m3Output::rounded};
  }

  /// Of the largest. Hopper's tensor cores keep 14 bits of a logit's sums, and some more are added.
  double lse_error() const { return on_cpu() ? 1e-6 : 0x1p-11; }

  /// Every output within the reference's slack and `error`, and the log-sum-exps.
  void expect_close(const Result& actual, const reference::E4m3Attention& wanted,
                    double error) const {
    EXPECT_TRUE(close_to_largest(actual.lse, wanted.lse, lse_error()));
    // A library's weights are rounded beside another maximum, or not at all: to 2^-4 each, which
    // averages out.
    if (!on_cpu()) {
      EXPECT_TRUE(close_in_norm(actual.out, wanted.out, 0x1p-4 + error));
      return;
    }
    ASSERT_EQ(actual.out.size(), wanted.out.size());
    ASSERT_FALSE(actual.out.empty());
    for (size_t i = 0; i < actual.out.size(); ++i) {
      ASSERT_LE(std::abs(actual.out[i] - wanted.out[i]), wanted.slack[i] + error)
          << "element " << i;
    }
    const double slack = std::accumulate(wanted.slack.begin(), wanted.slack.end(), 0.0);
    EXPECT_LT(slack / static_cast<double>(wanted.slack.size()), 5e-3)
        << "a slack that admits anything shows nothing";
  }
  /// Values are below 5: sums in f32, or one rounding to bf16.
  static double error_of(DType out) { return out == DType::bf16 ? 5 * 0x1p-8 : 1e-5; }
};

TEST_P(E4m3Attention, CodesAndScalesAreExact) {
  for (const auto& [heads, parts] : {std::pair{1, 1}, {6, 2}, {6, 6}, {4, 1}}) {
    const Shape shape{67, heads, 10};
    Values x =
        rounded_to(dtype(), random_values(static_cast<uint64_t>(heads), shape.elements(), -3, 3));
    for (size_t i = 0; i < x.size(); i += 7) x[i] *= 0x1p-12;  // some become subnormal, some vanish
    for (size_t i = 0; i < x.size(); i += 11) x[i] = 0;
    for (const int64_t padding : {0, 3, 8}) {
      Codes codes = quantized(x, shape, parts, padding);
      std::vector<uint8_t> bits(static_cast<size_t>(shape.elements()));
      backend().download(codes.codes, bits.data());
      const std::vector<float> scales = download_f32(backend(), codes.scales);
      const int64_t each = heads / parts;
      for (int64_t g = 0; g < parts; ++g) {
        const Values part = heads_of(x, heads, 10, g * each, (g + 1) * each);
        const double scale = reference::e4m3_scale(part);
        EXPECT_EQ(static_cast<double>(scales[static_cast<size_t>(g)]), scale);
        const Values wanted = reference::rounded_e4m3(part, scale);
        size_t n = 0;
        for (int64_t row = 0; row < 67; ++row) {
          for (int64_t i = g * each * 10; i < (g + 1) * each * 10; ++i) {
            const int code = bits[static_cast<size_t>(row * heads * 10 + i)];
            ASSERT_EQ(reference::value_of_code(code) * scale, wanted[n++]);
          }
        }
      }
    }
  }
}

TEST_P(E4m3Attention, ScalesIgnoreWhatIsNotFiniteAndCodesKeepNans) {
  Values x = random_values(1, 40, -1, 1);
  x[3] = std::numeric_limits<double>::quiet_NaN();
  x[4] = kInfinity;
  x[5] = -kInfinity;
  Codes codes = quantized(rounded_to(dtype(), x), {4, 1, 10}, 1);
  std::vector<uint8_t> bits(40);
  backend().download(codes.codes, bits.data());
  EXPECT_EQ(bits[3] & 0x7f, 0x7f);
  EXPECT_EQ(bits[4], 0x7e);
  EXPECT_EQ(bits[5], 0xfe);
  EXPECT_EQ(download_f32(backend(), codes.scales)[0], 0x1p-8F);
  Codes zeros = quantized(Values(20, 0.0), {2, 1, 10}, 1);
  EXPECT_EQ(download_f32(backend(), zeros.scales), (std::vector<float>{1}));
}

TEST_P(E4m3Attention, CodesOfCentredKeysAreThoseOfTheDifferences) {
  for (const auto& [rows, heads, d] : {std::tuple{67, 2, 16}, {5, 3, 10}, {1500, 1, 128}}) {
    const Shape shape{rows, heads, d};
    const int64_t n = int64_t{heads} * d;
    Values x = random_values(3, shape.elements(), -1, 1);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] += static_cast<double>(i % static_cast<size_t>(n) % 5);
    x = rounded_to(dtype(), x);
    Placed placed(backend(), dtype(), shape, x, 8);
    Tensor means = backend().allocate(DType::f32, {heads, d});
    backend().column_means(placed, means);
    const Values centre = as_doubles(download_f32(backend(), means));
    Values wanted(static_cast<size_t>(n), 0.0);
    for (size_t i = 0; i < x.size(); ++i) wanted[i % wanted.size()] += x[i] / rows;
    EXPECT_TRUE(close_to_largest(centre, wanted, 1e-6));
    Tensor codes = backend().allocate(DType::e4m3, shape);
    Tensor scales = backend().allocate(DType::f32, {1});
    backend().quantize(placed, codes, scales, means.view());
    Values differences;  // in f32, as they are formed
    for (size_t i = 0; i < x.size(); ++i) {
      differences.push_back(static_cast<double>(static_cast<float>(x[i]) -
                                                static_cast<float>(centre[i % centre.size()])));
    }
    const double scale = reference::e4m3_scale(differences);
    EXPECT_EQ(static_cast<double>(download_f32(backend(), scales)[0]), scale);
    std::vector<uint8_t> bits(x.size());
    backend().download(codes, bits.data());
    const Values rounded = reference::rounded_e4m3(differences, scale);
    for (size_t i = 0; i < x.size(); ++i)
      ASSERT_EQ(reference::value_of_code(bits[i]) * scale, rounded[i]);
  }
}

TEST_P(E4m3Attention, MeansAreOfWhatIsFinite) {
  Values x{1, 2,         std::numeric_limits<double>::quiet_NaN(),
           4, kInfinity, std::numeric_limits<double>::quiet_NaN()};
  Placed placed(backend(), dtype(), {3, 1, 2}, x);
  Tensor means = backend().allocate(DType::f32, {1, 2});
  backend().column_means(placed, means);
  EXPECT_EQ(download_f32(backend(), means), (std::vector<float>{1, 3}));
}

TEST_P(E4m3Attention, LogSumExpsShiftByTheProductWithTheCentre) {
  const Shape shape{37, 6, 48};
  const Values q = rounded_to(dtype(), random_values(1, shape.elements()));
  const Values centre = rounded_to(DType::f32, random_values(2, 2 * 48, -3, 3));
  Values before = random_values(3, 37 * 6, -5, 5);
  before[7] = -kInfinity;
  Codes codes = quantized(q, shape, 1);
  Placed lse(backend(), DType::f32, {37, 6}, before, 3);
  Placed to(backend(), DType::f32, {2, 48}, centre);
  backend().shift_lse(codes.part(0, 1), to, -0.5F, lse);
  const Values rounded = reference::rounded_e4m3(q, reference::e4m3_scale(q));
  Values wanted = rounded_to(DType::f32, before);
  for (int64_t i = 0; i < 37 * 6; ++i) {
    wanted[static_cast<size_t>(i)] -=
        0.5 * reference::dot(rounded.data() + i * 48, centre.data() + i % 6 / 3 * 48, 48);
  }
  EXPECT_TRUE(close_to_largest(lse.read(), wanted, 1e-6));
  EXPECT_TRUE(lse.padding_intact());
}

TEST_P(E4m3Attention, MatchesTheReferenceThatRoundsAlike) {
  for (const AttentionShape& s :
       {AttentionShape{131, 131, 2, 2, 8}, AttentionShape{67, 67, 4, 2, 16},
        AttentionShape{201, 201, 8, 1, 48}, AttentionShape{97, 97, 4, 2, 64},
        AttentionShape{131, 131, 4, 2, 128}, AttentionShape{77, 77, 2, 1, 256},
        AttentionShape{53, 53, 3, 1, 10}, AttentionShape{1, 1, 2, 1, 64},
        AttentionShape{1, 900, 4, 2, 16}}) {
    SCOPED_TRACE(concat("T ", s.queries, ", Tk ", s.keys, ", D ", s.head_dim));
    const Problem p = problem(s, {{0, s.queries, 0, s.keys, Mask::causal, s.keys - s.queries}});
    const reference::E4m3Attention wanted = expected(p);
    for (const E4m3Output output : outputs()) {
      reference::E4m3Attention rounded = wanted;
      if (output == E4m3Output::rounded)
        reference::round_output(rounded, reference::e4m3_scale(p.v));
      for (const DType out : {DType::f32, DType::bf16})
        expect_close(run(p, {p.slices}, output, out), rounded, error_of(out));
    }
  }
}

TEST_P(E4m3Attention, GoesOnFromEarlierKeysAsIfTheyWereOneList) {
  const Problem p = problem({70, 200, 4, 2, 16}, {{0, 70, 0, 200, Mask::full}});
  const std::vector<Slices> calls = {{{0, 70, 120, 200, Mask::full}},
                                     {{0, 70, 0, 33, Mask::full}},
                                     {{0, 70, 33, 120, Mask::full}}};
  // (Parts that are rounded are each off by 2^-5 on average, within what a library may round.)
  expect_close(run(p, calls, outputs().front()), expected(p), error_of(DType::f32));
}

TEST_P(E4m3Attention, RowsWithoutKeysStayEmpty) {
  const Problem p =
      problem({40, 40, 2, 2, 8}, {{5, 20, 0, 17, Mask::full}, {25, 40, 3, 40, Mask::causal, -3}});
  const reference::E4m3Attention wanted = expected(p);
  ASSERT_EQ(wanted.lse[0], -kInfinity);
  for (const E4m3Output output : outputs()) {
    const Result actual = run(p, {p.slices}, output);
    EXPECT_EQ(actual.lse[0], -kInfinity);
    EXPECT_EQ(actual.out[0], 0);
    EXPECT_TRUE(close_to_largest(actual.lse, wanted.lse, lse_error()));
  }
}

TEST_P(E4m3Attention, IsRightWhereLogitsAreFarFromZeroAndSpread) {
  // Logits up to some hundreds, rising with the key: the maximum moves with every block, and most
  // weights vanish beside it.
  for (const double factor : {8.0, 40.0}) {
    Problem p = problem({50, 700, 2, 1, 16}, {{0, 50, 0, 700, Mask::full}});
    for (double& x : p.q) x = rounded_to(dtype(), {x * factor})[0];
    const reference::E4m3Attention wanted = expected(p);
    const Result actual = run(p, {p.slices}, outputs().front());
    EXPECT_TRUE(close_in_norm(actual.out, wanted.out, on_cpu() ? 1e-2 : 0x1p-4));
    // (In f32 a logit of 200 is known to 200 * 2^-23.)
    EXPECT_TRUE(close_to_largest(actual.lse, wanted.lse, 2 * lse_error()));
  }
}

TEST_P(E4m3Attention, IsWithinItsBoundOfAttentionThatRoundsNothing) {
  // Operands and weights are off by 2^-4 at most, by 0.026 of themselves on average: q and k by so
  // much of the logits, which are about 1, v and the weights by so much of each term. Terms are
  // independent, so their sum is off by as much of itself: sqrt(4) * 0.026 = 0.053. An output
  // rounded besides: sqrt(5) * 0.026 = 0.06.
  for (const int64_t d : {16, 64, 128}) {
    const Problem p = problem({300, 300, 4, 2, d}, {{0, 300, 0, 300, Mask::causal, 0}});
    const auto exact = reference::attention_forward(p.slices, p.q, p.k, p.v,
                                                    static_cast<double>(p.scale), p.shape);
    const Values rounded = run(p, {p.slices}, E4m3Output::rounded).out;
    EXPECT_TRUE(close_in_norm(rounded, exact.out, 0.07));
    EXPECT_FALSE(close_in_norm(rounded, exact.out, 0.01)) << "nothing was rounded";
    if (!has_wide_output()) continue;
    const Values wide = run(p, {p.slices}, E4m3Output::wide).out;
    EXPECT_TRUE(close_in_norm(wide, exact.out, 0.06));
    EXPECT_FALSE(close_in_norm(wide, exact.out, 0.01)) << "nothing was rounded";
    EXPECT_GT(compare(rounded, exact.out).error_norm, compare(wide, exact.out).error_norm);
  }
}

TEST_P(E4m3Attention, SumsOfManyKeysDoNotShrink) {
  if (on_cpu()) GTEST_SKIP() << "a CPU sums in f32";
  // Weights that are much alike and values around 1 to 2: a sum that loses what is below its 14th
  // bit gets shorter with every key. Rounded outputs are off by 2^-5 each way, 64 of them by 0.4 %.
  Problem p = problem({16, 40007, 1, 1, 64}, {{0, 16, 0, 40007, Mask::full}});
  for (double& x : p.q) x /= 4;
  p.q = rounded_to(dtype(), p.q);
  for (size_t i = 0; i < p.v.size(); ++i)
    p.v[i] = p.v[i] / 10 + 1 + static_cast<double>(i % 64) / 64;
  p.v = rounded_to(dtype(), p.v);
  const reference::E4m3Attention wanted = expected(p);
  const double sum = std::accumulate(wanted.out.begin(), wanted.out.end(), 0.0);
  for (const E4m3Output output : outputs()) {
    const Values out = run(p, {p.slices}, output).out;
    EXPECT_NEAR(std::accumulate(out.begin(), out.end(), 0.0) / sum, 1, 0.01);
  }
}

TEST_P(E4m3Attention, GivesTheSameBitsEveryTime) {
  const Problem p = problem({300, 300, 4, 2, 64}, {{0, 300, 0, 300, Mask::causal, 0}});
  for (const E4m3Output output : outputs()) {
    const Result once = run(p, {p.slices}, output);
    const Result again = run(p, {p.slices}, output);
    EXPECT_TRUE(once.out == again.out && once.lse == again.lse);
  }
}

RINGBOLT_FOR_EACH_BACKEND(E4m3Attention);

}  // namespace
}  // namespace ringbolt
