// The oracle itself, checked against finite differences and against values worked out by hand.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/finite_difference.h"
#include "tests/support/printers.h"
#include "tests/support/random_values.h"
#include "tests/support/reference/attention.h"
#include "tests/support/reference/linear.h"
#include "tests/support/reference/rotary.h"
#include "tests/support/reference/row_wise.h"

namespace ringbolt::reference {
namespace {

using testing_support::close_in_norm;
using testing_support::finite_difference;
using testing_support::random_ids;
using testing_support::random_values;

// Richardson's extrapolation in double leaves 1e-11 or so; a wrong term in a formula shows from
// 1e-2 on.
constexpr double kBound = 1e-8;

double weighted_sum(const Values& weights, const Values& y) {
  return dot(weights.data(), y.data(), static_cast<int64_t>(y.size()));
}

TEST(ReferenceMatmul, AgreesForEveryTranspose) {
  // a = [1 2 3; 4 5 6], b = [1 0; 2 1; 0 3]: a b = [5 11; 14 23].
  const Values a{1, 2, 3, 4, 5, 6}, a_t{1, 4, 2, 5, 3, 6}, b{1, 0, 2, 1, 0, 3},
      b_t{1, 2, 0, 0, 1, 3};
  const Values expected{5, 11, 14, 23};
  EXPECT_EQ(matmul(a, Transpose::no, b, Transpose::no, 2, 3, 2), expected);
  EXPECT_EQ(matmul(a_t, Transpose::yes, b, Transpose::no, 2, 3, 2), expected);
  EXPECT_EQ(matmul(a, Transpose::no, b_t, Transpose::yes, 2, 3, 2), expected);
  EXPECT_EQ(matmul(a_t, Transpose::yes, b_t, Transpose::yes, 2, 3, 2), expected);
}

TEST(ReferenceLinear, GradientsMatchFiniteDifferences) {
  const int64_t tokens = 5, in = 3, out = 4;
  Values x = random_values(1, tokens * in), w = random_values(2, out * in),
         b = random_values(3, out);
  const Values dy = random_values(4, tokens * out);
  const auto f = [&] { return weighted_sum(dy, linear_forward(x, w, b, tokens, in, out)); };
  const LinearGradients g = linear_backward(dy, x, w, tokens, in, out);
  EXPECT_TRUE(close_in_norm(g.dx, finite_difference(x, f), kBound));
  EXPECT_TRUE(close_in_norm(g.dweight, finite_difference(w, f), kBound));
  EXPECT_TRUE(close_in_norm(g.dbias, finite_difference(b, f), kBound));
}

TEST(ReferenceEmbedding, GradientMatchesFiniteDifferencesForRepeatedIds) {
  const int64_t vocab = 7, hidden = 3;
  const std::vector<int32_t> ids{2, 0, 2, 6, 2};
  Values table = random_values(1, vocab * hidden);
  const Values dy = random_values(2, static_cast<int64_t>(ids.size()) * hidden);
  const auto f = [&] { return weighted_sum(dy, embedding_forward(table, ids, hidden)); };
  EXPECT_TRUE(close_in_norm(embedding_backward(dy, ids, vocab, hidden), finite_difference(table, f),
                            kBound));
}

TEST(ReferenceRmsNorm, GradientsMatchFiniteDifferences) {
  const int64_t tokens = 3, hidden = 7;
  Values x = random_values(1, tokens * hidden), w = random_values(2, hidden);
  const Values dy = random_values(3, tokens * hidden);
  const double epsilon = 0.1;  // large, so that a misplaced epsilon shows
  const auto f = [&] {
    return weighted_sum(dy, rms_norm_forward(x, w, epsilon, tokens, hidden).y);
  };
  const RmsNormGradients g = rms_norm_backward(dy, x, w, epsilon, tokens, hidden);
  EXPECT_TRUE(close_in_norm(g.dx, finite_difference(x, f), kBound));
  EXPECT_TRUE(close_in_norm(g.dweight, finite_difference(w, f), kBound));
}

TEST(ReferenceRmsNorm, NormalisesARowWorkedOutByHand) {
  const RmsNorm result =
      rms_norm_forward({3, 4}, {1, 2}, 0.5, 1, 2);  // mean square 12.5, rstd 1/sqrt(13)
  EXPECT_DOUBLE_EQ(result.rstd[0], 1 / std::sqrt(13.0));
  EXPECT_DOUBLE_EQ(result.y[1], 8 / std::sqrt(13.0));
}

TEST(ReferenceSwiglu, GradientMatchesFiniteDifferences) {
  const int64_t tokens = 3, ffn = 5;
  Values gate_up = random_values(1, tokens * 2 * ffn, -4, 4);
  const Values dy = random_values(2, tokens * ffn);
  const auto f = [&] { return weighted_sum(dy, swiglu_forward(gate_up, tokens, ffn)); };
  EXPECT_TRUE(close_in_norm(swiglu_backward(dy, gate_up, tokens, ffn),
                            finite_difference(gate_up, f), kBound));
}

class ReferenceRotary : public testing::TestWithParam<RotaryPairing> {};

TEST_P(ReferenceRotary, BackwardIsTheTransposedMapForPartialRotationAndScale) {
  const int64_t tokens = 4, heads = 3, head_dim = 10, rotary_dims = 6;
  const std::vector<int64_t> positions{0, 5, 1000, 7};
  const RotaryTable table = rotary_table(positions, rotary_dims, 100.0);
  const Values scale = random_values(1, tokens, 0.5, 2);
  Values x = random_values(2, tokens * heads * head_dim);
  const Values dy = random_values(3, tokens * heads * head_dim);
  const auto turn = [&](const Values& v, RotaryDirection direction) {
    return rotary(v, table, scale, GetParam(), direction, tokens, heads, head_dim, rotary_dims);
  };
  const auto f = [&] { return weighted_sum(dy, turn(x, RotaryDirection::forward)); };
  EXPECT_TRUE(close_in_norm(turn(dy, RotaryDirection::backward), finite_difference(x, f), kBound));
}

TEST_P(ReferenceRotary, GradientOfTheAnglesMatchesFiniteDifferences) {
  const int64_t tokens = 4, heads = 3, head_dim = 10, rotary_dims = 6;
  const Values scale = random_values(1, tokens, 0.5, 2);
  const Values x = random_values(2, tokens * heads * head_dim);
  const Values dy = random_values(3, tokens * heads * head_dim);
  Values angles = random_values(4, tokens * rotary_dims / 2, -3, 3);
  const auto turned = [&] {
    RotaryTable table;
    for (const double angle : angles) {
      table.cos.push_back(1.25 * std::cos(angle));  // YaRN's factor is part of both
      table.sin.push_back(1.25 * std::sin(angle));
    }
    return rotary(x, table, scale, GetParam(), RotaryDirection::forward, tokens, heads, head_dim,
                  rotary_dims);
  };
  const Values gradient =
      rotary_angle_backward(turned(), dy, GetParam(), tokens, heads, head_dim, rotary_dims);
  const auto f = [&] { return weighted_sum(dy, turned()); };
  EXPECT_TRUE(close_in_norm(gradient, finite_difference(angles, f), kBound));
}

TEST_P(ReferenceRotary, DotProductDependsOnTheDistanceAlone) {
  const int64_t head_dim = 8;
  const Values q = random_values(1, head_dim), k = random_values(2, head_dim);
  const auto product = [&](int64_t query_position, int64_t key_position) {
    const std::vector<int64_t> at_q{query_position}, at_k{key_position};
    const Values a = rotary(q, rotary_table(at_q, head_dim, 1e4), {}, GetParam(),
                            RotaryDirection::forward, 1, 1, head_dim, head_dim);
    const Values b = rotary(k, rotary_table(at_k, head_dim, 1e4), {}, GetParam(),
                            RotaryDirection::forward, 1, 1, head_dim, head_dim);
    return dot(a.data(), b.data(), head_dim);
  };
  EXPECT_NEAR(product(9, 2), product(1009, 1002), 1e-12);
  EXPECT_GT(std::abs(product(9, 2) - product(9, 3)), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Pairings, ReferenceRotary,
                         testing::Values(RotaryPairing::interleaved, RotaryPairing::half_split));

TEST(ReferenceRotary, TurnsTheFirstPairByThePosition) {
  const std::vector<int64_t> positions{3};
  const RotaryTable table = rotary_table(positions, 4, 10000.0, 2.0);
  EXPECT_DOUBLE_EQ(table.cos[0], std::cos(1.5));
  EXPECT_DOUBLE_EQ(table.sin[1], std::sin(0.015));
  const Values interleaved = rotary({1, 0, 0, 0}, table, {}, RotaryPairing::interleaved,
                                    RotaryDirection::forward, 1, 1, 4, 4);
  EXPECT_DOUBLE_EQ(interleaved[1], std::sin(1.5));
  const Values half_split = rotary({1, 0, 0, 0}, table, {}, RotaryPairing::half_split,
                                   RotaryDirection::forward, 1, 1, 4, 4);
  EXPECT_DOUBLE_EQ(half_split[2], std::sin(1.5));
}

TEST(ReferenceAttention, GradientsMatchFiniteDifferencesForGroupedHeadsAndSlices) {
  const AttentionShape shape{6, 7, 4, 2, 3};
  using Mask = AttentionSlice::Mask;
  // Query 0 sees nothing; 1 to 3 a shifted triangle; 4 and 5 a full rectangle and a second slice.
  const std::vector<AttentionSlice> slices{
      {1, 4, 0, 4, Mask::causal, 1}, {4, 6, 0, 3, Mask::full, 0}, {4, 6, 5, 7, Mask::causal, 0}};
  Values q = random_values(1, 6 * 4 * 3), k = random_values(2, 7 * 2 * 3),
         v = random_values(3, 7 * 2 * 3);
  const Values dout = random_values(4, 6 * 4 * 3);
  const auto f = [&] {
    return weighted_sum(dout, attention_forward(slices, q, k, v, 0.7, shape).out);
  };
  const AttentionGradients g = attention_backward(slices, q, k, v, dout, 0.7, shape);
  EXPECT_TRUE(close_in_norm(g.dq, finite_difference(q, f), kBound));
  EXPECT_TRUE(close_in_norm(g.dk, finite_difference(k, f), kBound));
  EXPECT_TRUE(close_in_norm(g.dv, finite_difference(v, f), kBound));
}

TEST(ReferenceAttention, AveragesTheVisibleValuesOfEqualLogits) {
  const AttentionShape shape{3, 3, 1, 1, 2};
  const std::vector<AttentionSlice> slices{{1, 3, 0, 3, AttentionSlice::Mask::causal, 1}};
  const Attention result =
      attention_forward(slices, zeros(6), zeros(6), {1, 2, 3, 4, 5, 12}, 1.0, shape);
  EXPECT_EQ(result.out, (Values{0, 0, 2, 3, 3, 6}));
  EXPECT_EQ(result.lse[0], -std::numeric_limits<double>::infinity());
  EXPECT_DOUBLE_EQ(result.lse[1], std::log(2.0));
  EXPECT_DOUBLE_EQ(result.lse[2], std::log(3.0));
}

TEST(ReferenceCrossEntropy, GradientMatchesFiniteDifferencesAndSkipsUncountedTokens) {
  const int64_t vocab = 5;
  const std::vector<int32_t> targets{4, -1, 0, 2};
  Values logits = random_values(1, 4 * vocab, -3, 3);
  const auto f = [&] { return cross_entropy(logits, targets, 1.0, vocab).total / 3; };
  const CrossEntropy result = cross_entropy(logits, targets, 1.0 / 3, vocab);
  EXPECT_EQ(result.counted, 3);
  EXPECT_EQ(result.losses[1], 0);
  EXPECT_TRUE(close_in_norm(result.gradient, finite_difference(logits, f), kBound));
}

TEST(ReferenceCrossEntropy, CountsTheFirstOfEqualLogitsAsTheHit) {
  const CrossEntropy result = cross_entropy({1, 2, 2, 1, 2, 2}, std::vector<int32_t>{1, 2}, 1.0, 3);
  EXPECT_EQ(result.hits, (std::vector<int32_t>{1, 0}));
}

TEST(ReferenceAdamW, TakesTheFirstTwoStepsWorkedOutByHand) {
  AdamWStep step{.learning_rate = 0.5F,
                 .beta1 = 0.5F,
                 .beta2 = 0.75F,
                 .epsilon = 0.0F,
                 .weight_decay = 0.25F,
                 .gradient_scale = 2.0F,
                 .step = 1};
  Values w{8}, m{0}, v{0};
  adamw(step, {2}, w, m, v);  // g = 4: m = 2, v = 4, both corrected to 4 and 16; update 1, decay 2
  EXPECT_DOUBLE_EQ(w[0], 8 - 0.5 * (1 + 2));
  step.step = 2;
  adamw(step, {0}, w, m, v);  // m = 1, v = 3; corrected 4/3 and 3/(1-0.5625)
  EXPECT_DOUBLE_EQ(m[0], 1);
  EXPECT_DOUBLE_EQ(v[0], 3);
  EXPECT_DOUBLE_EQ(w[0], 6.5 - 0.5 * ((1 / 0.75) / std::sqrt(3 / 0.4375) + 0.25 * 6.5));
}

}  // namespace
}  // namespace ringbolt::reference
