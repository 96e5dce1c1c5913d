#include "core/evaluate/context_loss.h"

#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "rope/method.h"
#include "rope/table.h"
#include "tests/support/random_values.h"

namespace ringbolt {
namespace {

using testing_support::random_ids;

struct Fixture {
  std::unique_ptr<Backend> backend = make_cpu_backend();
  ModelConfig config = model_shape("dim=32,layers=2,heads=4,kv-heads=2,ffn=48,vocab=31");
  ResidentParameters store{*backend, config, DType::f32, StorePurpose::inference};
  Transformer model{*backend, store};
  std::vector<int32_t> stream = random_ids(5, 103, 31);

  Fixture() { initialise(*backend, store, 3); }

  RotaryTable table(std::span<const int64_t> positions) {
    return make_rotary_table(*backend, RotaryMethod(config), positions);
  }
  ContextLoss evaluate(const EvaluationProtocol& protocol) {
    WholePlacement placement(*backend);
    return evaluate_context(
        model, placement, protocol, static_cast<int64_t>(stream.size()),
        [&](int64_t begin, std::span<int32_t> out) {
          std::copy_n(stream.begin() + begin, out.size(), out.begin());
        },
        [&](std::span<const int64_t> positions) { return table(positions); });
  }
  /// Losses of the window at `begin`, run on its own.
  std::vector<float> window_losses(int64_t begin, int64_t length) {
    std::vector<int32_t> ids{1};
    ids.insert(ids.end(), stream.begin() + begin, stream.begin() + begin + length - 1);
    const std::vector<int32_t> targets(stream.begin() + begin, stream.begin() + begin + length);
    const std::vector<int64_t> positions = sequence_positions(length);
    const std::vector<int64_t> offsets{0, length};
    WholeSequenceAttention attention(*backend, causal_slices(offsets));
    return model.evaluate(ids, targets, table(positions), attention).losses;
  }
};

/// Losses differ by f32 rounding alone when windows are run together instead of one by one.
constexpr double kBound = 1e-5;

TEST(ContextLoss, ScoresConsecutiveWindowsOnceEach) {
  Fixture f;
  const ContextLoss result =
      f.evaluate({.context_length = 17, .windows = 0, .tokens_per_pass = 40});
  ASSERT_EQ(result.windows, 6);  // 103 tokens
  EXPECT_EQ(result.total.tokens, 6 * 17);
  double expected = 0;
  for (int64_t w = 0; w < 6; ++w) {
    for (float loss : f.window_losses(w * 17, 17)) expected += static_cast<double>(loss);
  }
  EXPECT_NEAR(result.total.loss, expected, kBound * expected);
  EXPECT_NEAR(result.perplexity(), std::exp(expected / 102), 1e-4);
}

TEST(ContextLoss, BucketsAddUpToTheTotal) {
  Fixture f;
  const ContextLoss result = f.evaluate({.context_length = 18, .windows = 3, .buckets = 4});
  LossSum sum;
  for (const LossSum& bucket : result.buckets) sum += bucket;
  EXPECT_EQ(sum.tokens, result.total.tokens);
  EXPECT_EQ(sum.hits, result.total.hits);
  EXPECT_NEAR(sum.loss, result.total.loss, 1e-9);
  EXPECT_EQ(result.buckets[0].tokens, 3 * 5);  // positions 0 … 4 of 18
  EXPECT_EQ(result.buckets[1].tokens, 3 * 4);
}

TEST(ContextLoss, MaskedOverlapScoresEachTargetOnce) {
  Fixture f;
  const ContextLoss result = f.evaluate({.context_length = 20, .windows = 5, .stride = 8});
  ASSERT_EQ(result.windows, 5);
  EXPECT_EQ(result.total.tokens, 20 + 4 * 8);
  double expected = 0;
  for (int64_t w = 0; w < 5; ++w) {
    const std::vector<float> losses = f.window_losses(w * 8, 20);
    for (size_t t = w == 0 ? 0 : 12; t < 20; ++t) expected += static_cast<double>(losses[t]);
  }
  EXPECT_NEAR(result.total.loss, expected, kBound * expected);
}

TEST(ContextLoss, ScoredOverlapCountsWindowsInFull) {
  Fixture f;
  const ContextLoss result =
      f.evaluate({.context_length = 20, .windows = 5, .stride = 8, .overlap = Overlap::scored});
  EXPECT_EQ(result.total.tokens, 5 * 20);
}

TEST(ContextLoss, RefusesALengthBeyondTheDataAndAStrideBeyondTheLength) {
  Fixture f;
  EXPECT_THROW(f.evaluate({.context_length = 104}), UsageError);
  EXPECT_THROW(f.evaluate({.context_length = 10, .stride = 11}), UsageError);
  EXPECT_THROW(f.evaluate({.context_length = 0}), UsageError);
  EXPECT_EQ(f.evaluate({.context_length = 103}).windows, 1);
}

// What looks at each token alone may take them in any pieces: only the order of f32 sums in a
// product may change with the rows that it has, at most some roundings of a loss.
TEST(ContextLoss, IsTheSameInPiecesOfAnySize) {
  Fixture f;
  const EvaluationProtocol protocol{.context_length = 51, .windows = 2, .buckets = 5};
  const ContextLoss whole = f.evaluate(protocol);
  for (const int64_t piece : {1, 7, 51, 64}) {
    Transformer in_pieces(*f.backend, f.store, piece);
    WholePlacement placement(*f.backend);
    int64_t last = 0;
    const ContextLoss loss = evaluate_context(
        in_pieces, placement, protocol, static_cast<int64_t>(f.stream.size()),
        [&](int64_t begin, std::span<int32_t> out) {
          std::copy_n(f.stream.begin() + begin, out.size(), out.begin());
        },
        [&](std::span<const int64_t> positions) { return f.table(positions); },
        [&](int64_t done, int64_t tokens) {
          EXPECT_GE(done, last);
          EXPECT_EQ(tokens, 2 * 51);
          last = done;
        });
    EXPECT_EQ(last, 2 * 51);
    ASSERT_EQ(loss.buckets.size(), whole.buckets.size());
    for (size_t b = 0; b < whole.buckets.size(); ++b) {
      EXPECT_EQ(loss.buckets[b].tokens, whole.buckets[b].tokens);
      EXPECT_NEAR(loss.buckets[b].loss, whole.buckets[b].loss,
                  kBound * static_cast<double>(whole.buckets[b].tokens));
    }
  }
}

}  // namespace
}  // namespace ringbolt
