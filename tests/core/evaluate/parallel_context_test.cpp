#include "core/evaluate/parallel_context.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/evaluate/context_loss.h"
#include "rope/method.h"
#include "rope/position_maps.h"
#include "rope/table.h"
#include "tests/support/random_values.h"

namespace ringbolt {
namespace {

TEST(ParallelContext, GivesEachFurtherWindowAStart) {
  // Ten tokens, <s> first, two of them the query: windows of <s> and three of text.
  const std::vector<int32_t> text{1, 11, 12, 13, 14, 15, 16, 17, 18, 19};
  const ParallelWindows windows = parallel_windows({4, 2}, 10, true);
  EXPECT_EQ(windows, (ParallelWindows{4, 10, true}));
  EXPECT_EQ(with_window_starts(text, windows, 1),
            (std::vector<int32_t>{1, 11, 12, 13, 1, 14, 15, 16, 1, 17, 18, 19}));
  const ParallelWindows bare = parallel_windows({4, 2}, 10, false);
  EXPECT_EQ(bare, (ParallelWindows{4, 8, false}));
  EXPECT_EQ(with_window_starts(text, bare, 1), text);
}

TEST(ParallelContext, OfATextThatFitsIsTheTextItself) {
  for (const int64_t tokens : {1, 2, 3, 5, 6}) {
    const ParallelWindows windows = parallel_windows({4, 2}, tokens, true);
    const std::vector<int32_t> text(static_cast<size_t>(tokens), 7);
    EXPECT_EQ(with_window_starts(text, windows, 1), text) << tokens;
    EXPECT_EQ(windows.query_begin, std::max<int64_t>(0, tokens - 2));
  }
}

TEST(ParallelContext, RefusesWhatHoldsNothing) {
  EXPECT_THROW(validate(ParallelContext{4, 0}), UsageError);
  EXPECT_THROW(validate(ParallelContext{1, 4}), UsageError);
}

struct Fixture {
  std::unique_ptr<Backend> backend = make_cpu_backend();
  ModelConfig config = model_shape("dim=32,layers=2,heads=4,kv-heads=2,ffn=48,vocab=31");
  ResidentParameters store{*backend, config, DType::f32, StorePurpose::inference};
  Transformer model{*backend, store};
  std::vector<int32_t> stream = testing_support::random_ids(5, 120, 31);

  Fixture() { initialise(*backend, store, 3); }

  ContextLoss evaluate(const EvaluationProtocol& protocol, const std::vector<int32_t>& text) {
    const auto windows = windows_of(protocol);
    WholePlacement placement(*backend, windows ? Visibility(*windows) : Visibility());
    return evaluate_context(
        model, placement, protocol, static_cast<int64_t>(text.size()),
        [&](int64_t begin, std::span<int32_t> out) {
          std::copy_n(text.begin() + begin, out.size(), out.begin());
        },
        [&](std::span<const int64_t> positions) {
          std::vector<int64_t> at(positions.begin(), positions.end());
          if (windows) at = parallel_window_positions(positions, *windows);
          return make_rotary_table(*backend, RotaryMethod(config), at);
        });
  }
};

/// Losses here are near ln 31; sums in another order differ by f32 rounding alone.
constexpr double kBound = 2e-5;

TEST(ParallelContext, InOneWindowLosesWhatPlainAttentionLosesOnTheQuery) {
  Fixture f;
  const EvaluationProtocol plain{.context_length = 40, .stride = 8};
  EvaluationProtocol windows = plain;
  windows.parallel = ParallelContext{32, 8};
  const ContextLoss a = f.evaluate(plain, f.stream);
  const ContextLoss b = f.evaluate(windows, f.stream);
  EXPECT_EQ(a.windows, b.windows);
  EXPECT_EQ(b.total.tokens, b.windows * 8);
  EXPECT_EQ(a.total.tokens,
            b.total.tokens + 32);  // the first window's context is scored by the plain one
  const ContextLoss first =
      f.evaluate({.context_length = 40, .windows = 1, .buckets = 5}, f.stream);
  double context = 0;
  for (size_t i = 0; i < 4; ++i) context += first.buckets[i].loss;
  EXPECT_NEAR(a.total.loss - context, b.total.loss, kBound * a.total.loss);
}

TEST(ParallelContext, DoesNotCareInWhichOrderItsWindowsCome) {
  Fixture f;
  // <s> and 30 tokens of context in three windows of ten, eight of query.
  EvaluationProtocol protocol{.context_length = 39};
  protocol.parallel = ParallelContext{11, 8};
  std::vector<int32_t> text(f.stream.begin(), f.stream.begin() + 39);
  std::vector<int32_t> swapped = text;
  std::rotate(swapped.begin(), swapped.begin() + 10, swapped.begin() + 30);
  ASSERT_NE(text, swapped);
  const ContextLoss loss = f.evaluate(protocol, text);
  EXPECT_EQ(loss.total.tokens, 8);
  EXPECT_EQ(loss.buckets.size(), 4U);
  for (const LossSum& bucket : loss.buckets) EXPECT_EQ(bucket.tokens, 2);
  EXPECT_NEAR(loss.total.loss, f.evaluate(protocol, swapped).total.loss, kBound);
  // To plain attention the order matters, and so does what the context says to the query.
  const EvaluationProtocol plain{.context_length = 39, .stride = 8, .buckets = 39};
  const auto tail = [](const ContextLoss& c) {
    double sum = 0;
    for (size_t i = 31; i < 39; ++i) sum += c.buckets[i].loss;
    return sum;
  };
  EXPECT_GT(std::abs(tail(f.evaluate(plain, text)) - tail(f.evaluate(plain, swapped))),
            10 * kBound);
  swapped[5] = (swapped[5] + 1) % 31;
  EXPECT_GT(std::abs(f.evaluate(protocol, swapped).total.loss - loss.total.loss), kBound);
}

TEST(ParallelContext, WithAQueryLongerThanTheTextIsPlain) {
  Fixture f;
  EvaluationProtocol protocol{.context_length = 20, .buckets = 4};
  const ContextLoss plain = f.evaluate(protocol, f.stream);
  protocol.parallel = ParallelContext{11, 64};
  const ContextLoss windows = f.evaluate(protocol, f.stream);
  EXPECT_EQ(windows.total.tokens, plain.total.tokens);
  EXPECT_NEAR(windows.total.loss, plain.total.loss, kBound * plain.total.loss);
}

}  // namespace
}  // namespace ringbolt
