// RMSNorm, rotary, SwiGLU and cross entropy of every device against the double-precision reference.
#include <algorithm>
#include <cmath>
#include <optional>

#include <gtest/gtest.h>

#include "tests/support/backend_cases.h"
#include "tests/support/compare.h"
#include "tests/support/placed.h"
#include "tests/support/printers.h"
#include "tests/support/reference/rotary.h"
#include "tests/support/reference/row_wise.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::Values;

// Roundings of single f32 operations: few, each 2^-24 of a value no larger than a few times the
// largest result.
constexpr double kFewRoundings = 16 * 0x1p-24;

class RowWiseOps : public BackendTest {
 protected:
  /// `terms` f32 additions in the worst order, then one rounding to A.
  double bound(int64_t terms) const {
    return static_cast<double>(terms) * 0x1p-24 + kFewRoundings + eps(dtype());
  }
};

TEST_P(RowWiseOps, RmsNormMatchesTheReference) {
  for (int64_t hidden : {1, 7, 64, 129, 1000}) {
    for (int64_t padding : {0, 5}) {
      const int64_t tokens = 9;
      const double epsilon = 1e-5;
      Values x = rounded_to(dtype(), random_values(1, tokens * hidden, -3, 3));
      std::fill_n(x.begin(), hidden, 0.0);  // a row of zeros: epsilon alone
      for (int64_t e = 0; e < hidden; ++e)
        x.data()[hidden + e] *= 0x1p-30;  // squares far below epsilon
      const Values w = rounded_to(dtype(), random_values(2, hidden, 0.5, 2));
      Placed px(backend(), dtype(), {tokens, hidden}, x, padding),
          pw(backend(), dtype(), {hidden}, w);
      Placed y(backend(), dtype(), {tokens, hidden}, padding),
          rstd(backend(), DType::f32, {tokens});
      backend().rms_norm_forward(px, pw, static_cast<float>(epsilon), y, rstd);
      const auto expected = reference::rms_norm_forward(
          x, w, static_cast<double>(static_cast<float>(epsilon)), tokens, hidden);
      // The root halves the relative error of the sum of squares.
      EXPECT_TRUE(close_to_largest(y.read(), expected.y, bound(hidden / 2))) << "hidden " << hidden;
      EXPECT_TRUE(close_to_largest(rstd.read(), expected.rstd,
                                   static_cast<double>(hidden / 2) * 0x1p-24 + kFewRoundings));
      EXPECT_TRUE(y.padding_intact());
    }
  }
}

TEST_P(RowWiseOps, RmsNormBackwardAddsToBothGradients) {
  for (int64_t hidden : {1, 7, 64, 129, 1000}) {
    for (int64_t tokens : {1, 9, 130}) {
      const double epsilon = 0x1p-10;
      const Values x = rounded_to(dtype(), random_values(1, tokens * hidden, -3, 3));
      const Values w = rounded_to(dtype(), random_values(2, hidden, 0.5, 2));
      const Values dy = rounded_to(dtype(), random_values(3, tokens * hidden));
      const Values dx_before = rounded_to(dtype(), random_values(4, tokens * hidden));
      const Values dw_before = rounded_to(DType::f32, random_values(5, hidden));
      const Values r =
          rounded_to(DType::f32, reference::rms_norm_forward(x, w, epsilon, tokens, hidden).rstd);
      Placed px(backend(), dtype(), {tokens, hidden}, x, 3), pw(backend(), dtype(), {hidden}, w);
      Placed pdy(backend(), dtype(), {tokens, hidden}, dy, 2),
          rstd(backend(), DType::f32, {tokens}, r);
      Placed dx(backend(), dtype(), {tokens, hidden}, dx_before, 1),
          dw(backend(), DType::f32, {hidden}, dw_before);
      backend().rms_norm_backward(pdy, px, pw, rstd, dx, dw);
      const auto g = reference::rms_norm_backward(dy, x, w, epsilon, tokens, hidden);
      EXPECT_TRUE(close_to_largest(dx.read(), reference::sum(dx_before, g.dx), bound(hidden)));
      // `tokens` terms, of which the largest sum keeps about the root: hence the factor
      // sqrt(tokens).
      const double terms = static_cast<double>(tokens) * std::sqrt(static_cast<double>(tokens));
      EXPECT_TRUE(close_to_largest(dw.read(), reference::sum(dw_before, g.dweight),
                                   terms * 0x1p-24 + kFewRoundings))
          << tokens << 'x' << hidden;
      EXPECT_TRUE(dx.padding_intact());
    }
  }
}

TEST_P(RowWiseOps, RotaryTurnsPartOfEachHeadForwardAndBack) {
  struct Heads {
    int64_t heads, head_dim, rotary_dims;
  };
  for (const Heads& s :
       {Heads{1, 2, 2}, Heads{3, 10, 6}, Heads{2, 48, 48}, Heads{5, 80, 80}, Heads{2, 64, 32}}) {
    for (RotaryPairing pairing : {RotaryPairing::interleaved, RotaryPairing::half_split}) {
      for (RotaryDirection direction : {RotaryDirection::forward, RotaryDirection::backward}) {
        for (bool scaled : {false, true}) {
          const std::vector<int64_t> positions = {0, 1, 77, 4095, 1000000};
          const auto tokens = static_cast<int64_t>(positions.size());
          reference::RotaryTable table = reference::rotary_table(positions, s.rotary_dims, 1e4);
          table = {rounded_to(DType::f32, table.cos), rounded_to(DType::f32, table.sin)};
          const Values x = rounded_to(dtype(), random_values(1, tokens * s.heads * s.head_dim));
          const Values scale =
              scaled ? rounded_to(DType::f32, random_values(2, tokens, 0.5, 2)) : Values{};
          Placed px(backend(), dtype(), {tokens, s.heads, s.head_dim}, x, 7);
          Placed cos(backend(), DType::f32, {tokens, s.rotary_dims / 2}, table.cos);
          Placed sin(backend(), DType::f32, {tokens, s.rotary_dims / 2}, table.sin);
          Placed pscale(backend(), DType::f32, {tokens},
                        scaled ? scale : Values(positions.size(), 1.0));
          backend().rotary(px, cos, sin, pairing, direction,
                           scaled ? std::optional<ConstView>(pscale.view()) : std::nullopt);
          const Values expected = reference::rotary(x, table, scale, pairing, direction, tokens,
                                                    s.heads, s.head_dim, s.rotary_dims);
          const double limit = kFewRoundings + eps(dtype());
          EXPECT_TRUE(close_to_largest(px.read(), expected, limit))
              << s.heads << 'x' << s.head_dim << " of " << s.rotary_dims << ' '
              << testing::PrintToString(pairing);
          EXPECT_TRUE(px.padding_intact());
        }
      }
    }
  }
}

TEST_P(RowWiseOps, RotaryAngleBackwardAddsTheGradientOfTheAnglesOfAllHeads) {
  struct Heads {
    int64_t tokens, heads, head_dim, rotary_dims;
  };
  for (const Heads& s : {Heads{1, 1, 2, 2}, Heads{5, 3, 10, 6}, Heads{7, 2, 48, 48},
                         Heads{3, 33, 80, 80}, Heads{300, 8, 64, 32}}) {
    for (RotaryPairing pairing : {RotaryPairing::interleaved, RotaryPairing::half_split}) {
      const int64_t elements = s.tokens * s.heads * s.head_dim;
      const int64_t pairs = s.rotary_dims / 2;
      const Values x = rounded_to(dtype(), random_values(1, elements));
      const Values dx = rounded_to(dtype(), random_values(2, elements));
      const Values before = rounded_to(DType::f32, random_values(3, s.tokens * pairs));
      Placed px(backend(), dtype(), {s.tokens, s.heads, s.head_dim}, x, 7);
      Placed pdx(backend(), dtype(), {s.tokens, s.heads, s.head_dim}, dx, 2);
      Placed dangles(backend(), DType::f32, {s.tokens, pairs}, before, 3);
      backend().rotary_angle_backward(px, pdx, pairing, dangles);
      const Values expected =
          reference::sum(before, reference::rotary_angle_backward(x, dx, pairing, s.tokens, s.heads,
                                                                  s.head_dim, s.rotary_dims));
      // N heads of two products each of at most 1, one addition each: the bound of the contract,
      // where the largest of the sums is at least 1.
      const auto terms = static_cast<double>(2 * s.heads + 1);
      EXPECT_TRUE(close_to_largest(dangles.read(), expected,
                                   static_cast<double>(s.heads + 2) * 0x1p-24 * terms))
          << s.tokens << 'x' << s.heads << 'x' << s.head_dim << " of " << s.rotary_dims << ' '
          << testing::PrintToString(pairing);
      EXPECT_TRUE(dangles.padding_intact());
    }
  }
}

TEST_P(RowWiseOps, SwigluMatchesTheReferenceEvenWhereTheExponentialSaturates) {
  for (int64_t ffn : {1, 5, 64, 171}) {
    const int64_t tokens = 7;
    Values gate_up = rounded_to(dtype(), random_values(1, tokens * 2 * ffn, -8, 8));
    const std::vector<double> extremes = {0, -0.0, 40, -40, 100, -100, 10000};
    for (size_t t = 0; t < extremes.size(); ++t)
      gate_up[t * static_cast<size_t>(2 * ffn)] = extremes[t];
    gate_up = rounded_to(dtype(), gate_up);
    const Values dy = rounded_to(dtype(), random_values(2, tokens * ffn));
    Placed pgate_up(backend(), dtype(), {tokens, 2 * ffn}, gate_up, 3),
        pdy(backend(), dtype(), {tokens, ffn}, dy, 1);
    Placed y(backend(), dtype(), {tokens, ffn}, 2);
    backend().swiglu_forward(pgate_up, y);
    backend().swiglu_backward(pdy, pgate_up);
    // Row by row, so that the extreme rows do not hide the others; e^x is good to 2^-22 there.
    const Values expected = reference::swiglu_forward(gate_up, tokens, ffn);
    const Values gradient = reference::swiglu_backward(dy, gate_up, tokens, ffn);
    const Values actual = y.read(), actual_gradient = pgate_up.read();
    const auto one_row = [](const Values& all, int64_t t, int64_t width) {
      return Values(all.begin() + t * width, all.begin() + (t + 1) * width);
    };
    for (int64_t t = 0; t < tokens; ++t) {
      for (const Comparison& c :
           {compare(one_row(actual, t, ffn), one_row(expected, t, ffn)),
            compare(one_row(actual_gradient, t, 2 * ffn), one_row(gradient, t, 2 * ffn))}) {
        // What would be a denormal float may be zero.
        EXPECT_LE(c.max_error, bound(0) * c.largest_expected + 0x1p-126) << "row " << t << c.str();
        EXPECT_EQ(c.not_finite, 0);
      }
    }
    EXPECT_TRUE(y.padding_intact());
    EXPECT_TRUE(pgate_up.padding_intact());
  }
}

class CrossEntropyOps : public RowWiseOps {
 protected:
  struct Result {
    Values losses;
    std::vector<int32_t> hits;
    Values gradient;
  };

  Result run(const Values& logits, const std::vector<int32_t>& targets, float scale,
             DType gradient_dtype) {
    const auto tokens = static_cast<int64_t>(targets.size());
    const int64_t vocab = static_cast<int64_t>(logits.size()) / tokens;
    Placed plogits(backend(), DType::f32, {tokens, vocab}, logits),
        losses(backend(), DType::f32, {tokens});
    Placed gradient(backend(), gradient_dtype, {tokens, vocab});
    Tensor ptargets = upload_ids(backend(), targets);
    Tensor hits = backend().allocate(DType::i32, {tokens});
    backend().cross_entropy({plogits, ptargets, losses, hits, gradient}, scale);
    return {losses.read(), download_ids(backend(), hits), gradient.read()};
  }
};

TEST_P(CrossEntropyOps, MatchesTheReferenceAndSkipsUncountedTokens) {
  for (int64_t vocab : {2, 7, 259, 1000, 32000}) {
    const int64_t tokens = vocab > 5000 ? 3 : 12;
    const Values logits = rounded_to(DType::f32, random_values(1, tokens * vocab, -6, 6));
    std::vector<int32_t> targets = random_ids(2, tokens, vocab);
    targets[1] = -1;
    const float scale = 0.125F;
    const auto expected =
        reference::cross_entropy(logits, targets, static_cast<double>(scale), vocab);
    for (DType gradient_dtype : {DType::f32, dtype()}) {
      const Result r = run(logits, targets, scale, gradient_dtype);
      // Losses are near log V: the sum's relative error (1024 terms a partial sum) and a few
      // roundings of size 2^-24 * 20.
      EXPECT_LE(compare(r.losses, expected.losses).max_error,
                static_cast<double>(std::min<int64_t>(vocab, 1024)) * 0x1p-24 + 64 * 0x1p-24);
      EXPECT_EQ(compare(r.losses, expected.losses).not_finite, 0);
      EXPECT_EQ(r.hits, expected.hits);
      EXPECT_EQ(r.losses[1], 0);
      const Comparison c = compare(r.gradient, expected.gradient);
      EXPECT_EQ(c.not_finite, 0);
      EXPECT_LE(c.max_error,
                static_cast<double>(scale) *
                    (eps(gradient_dtype) +
                     static_cast<double>(std::min<int64_t>(vocab, 1024)) * 0x1p-24 + kFewRoundings))
          << c.str();
      EXPECT_TRUE(std::all_of(r.gradient.begin() + vocab, r.gradient.begin() + 2 * vocab,
                              [](double x) { return x == 0; }));
    }
  }
}

TEST_P(CrossEntropyOps, StaysFiniteForHugeLogits) {
  // A sure hit, a sure miss, and equal logits, each far outside the range of the exponential.
  const Values logits = {1e4, -1e4, 0, -1e4, 1e4, 0, 3e38, 3e38, 3e38};
  const Result r = run(logits, {0, 0, 2}, 1.0F, DType::f32);
  EXPECT_NEAR(r.losses[0], 0, 1e-6);
  EXPECT_NEAR(r.losses[1], 2e4, 1e-2);
  EXPECT_NEAR(r.gradient[3], -1, 1e-6);
  EXPECT_NEAR(r.gradient[4], 1, 1e-6);
  EXPECT_EQ(compare(r.gradient, Values(9, 0.0)).not_finite, 0);
}

TEST_P(CrossEntropyOps, CountsAHitForTheFirstOfEqualLogitsOnly) {
  Values logits(2 * 77, 0.0);
  logits[40] = logits[60] = logits[77 + 40] = logits[77 + 60] = 3;
  EXPECT_EQ(run(logits, {40, 60}, 1.0F, DType::f32).hits, (std::vector<int32_t>{1, 0}));
}

TEST_P(CrossEntropyOps, WritesTheGradientOverTheLogitsOrNotAtAll) {
  const int64_t tokens = 5, vocab = 33;
  const Values logits = rounded_to(DType::f32, random_values(1, tokens * vocab, -6, 6));
  const std::vector<int32_t> targets = {3, -1, 0, 32, 3};
  Placed in_place(backend(), DType::f32, {tokens, vocab}, logits),
      losses(backend(), DType::f32, {tokens});
  Tensor ptargets = upload_ids(backend(), targets);
  Tensor hits = backend().allocate(DType::i32, {tokens});
  backend().cross_entropy({in_place, ptargets, losses, hits, View()}, 1.0F);
  EXPECT_EQ(in_place.read(), logits) << "without a gradient the logits stay";
  const Values alone = losses.read();
  backend().cross_entropy({in_place, ptargets, losses, hits, in_place}, 1.0F);
  EXPECT_EQ(losses.read(), alone);
  EXPECT_EQ(in_place.read(), run(logits, targets, 1.0F, DType::f32).gradient);
}

RINGBOLT_FOR_EACH_BACKEND(RowWiseOps);
RINGBOLT_FOR_EACH_BACKEND(CrossEntropyOps);

}  // namespace
}  // namespace ringbolt
