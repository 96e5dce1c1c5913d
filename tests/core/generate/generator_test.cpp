#include <array>
#include <cmath>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/generate/generator.h"
#include "rope/method.h"
#include "rope/table.h"

namespace ringbolt {
namespace {

TEST(Sampler, TemperatureZeroTakesTheFirstOfTheLargest) {
  const std::vector<float> logits{0.5F, 2.0F, 2.0F, -1.0F};
  EXPECT_EQ(sample(logits, {.temperature = 0}, 0), 1);
}

TEST(Sampler, DrawsWithSoftmaxFrequencies) {
  const std::vector<float> logits{std::log(0.1F), std::log(0.6F), std::log(0.3F)};
  std::array<int, 3> counts{};
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sample(logits, {.temperature = 1, .seed = 3}, i))];
  // Four standard deviations of a binomial count: below 0.014 of the draws.
  EXPECT_NEAR(counts[0] / double{kDraws}, 0.1, 0.014);
  EXPECT_NEAR(counts[1] / double{kDraws}, 0.6, 0.014);
  EXPECT_NEAR(counts[2] / double{kDraws}, 0.3, 0.014);
}

TEST(Sampler, TopKAndTopPDropTheTail) {
  const std::vector<float> logits{std::log(0.1F), std::log(0.6F), std::log(0.3F)};
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(sample(logits, {.temperature = 1, .top_k = 1}, i), 1);
    EXPECT_EQ(sample(logits, {.temperature = 1, .top_p = 0.5}, i), 1);
    EXPECT_NE(sample(logits, {.temperature = 1, .top_p = 0.85}, i), 0);
  }
}

TEST(Sampler, RefusesImpossibleOptions) {
  EXPECT_THROW(validate(SamplingOptions{.temperature = -1}), UsageError);
  EXPECT_THROW(validate(SamplingOptions{.top_k = -1}), UsageError);
  EXPECT_THROW(validate(SamplingOptions{.top_p = 0}), UsageError);
  EXPECT_NO_THROW(validate(SamplingOptions{}));
}

/// A small model with random weights, and its rotary tables.
struct Fixture {
  std::unique_ptr<Backend> backend = make_cpu_backend();
  ModelConfig config = model_shape("dim=40,layers=3,heads=4,kv-heads=2,ffn=64,vocab=53");
  ResidentParameters store{*backend, config, DType::f32, StorePurpose::inference};
  Transformer model{*backend, store};
  RotaryTables tables = [this](std::span<const int64_t> positions) {
    return make_rotary_table(*backend, RotaryMethod(config), positions);
  };
  Fixture() { initialise(*backend, store, 11); }
};

TEST(KvCache, FeedingInPiecesGivesTheLogitsOfTheWhole) {
  Fixture f;
  const std::vector<int32_t> ids{1, 17, 5, 44, 9, 52, 3, 8, 21, 30, 11};
  Generator whole(*f.backend, f.model, DType::f32, f.tables, 32);
  const std::vector<float> expected = whole.feed(ids);
  for (const size_t cut : {1U, 4U, 10U}) {
    Generator pieces(*f.backend, f.model, DType::f32, f.tables, 32);
    pieces.feed(std::span(ids).first(cut));
    const std::vector<float> actual = pieces.feed(std::span(ids).subspan(cut));
    ASSERT_EQ(actual.size(), 53U);
    // The same sums in another order: logits here are below 1, so this is some tens of roundings.
    for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 3e-6F) << "cut " << cut;
  }
}

TEST(KvCache, RefusesMoreThanItsCapacity) {
  Fixture f;
  Generator generator(*f.backend, f.model, DType::f32, f.tables, 4);
  const std::vector<int32_t> ids{1, 2, 3, 4, 5};
  EXPECT_THROW(generator.feed(ids), UsageError);
}

TEST(Generator, StopsWhenAskedAndRepeatsWithItsSeed) {
  Fixture f;
  const std::vector<int32_t> prompt{1, 4, 9};
  const auto text = [&](int64_t tokens, uint64_t seed, size_t stop_after) {
    std::vector<int32_t> out;
    Generator generator(*f.backend, f.model, DType::f32, f.tables, 64);
    generator.run(prompt, tokens, {.temperature = 1, .seed = seed}, [&](int32_t token) {
      out.push_back(token);
      return out.size() < stop_after;
    });
    return out;
  };
  EXPECT_EQ(text(20, 1, 100).size(), 20U);
  EXPECT_EQ(text(20, 1, 7).size(), 7U);
  EXPECT_EQ(text(20, 1, 100), text(20, 1, 100));
  EXPECT_NE(text(20, 1, 100), text(20, 2, 100));
}

TEST(Transformer, RefusesATokenOutsideItsVocabulary) {
  Fixture f;
  Generator generator(*f.backend, f.model, DType::f32, f.tables, 8);
  const std::vector<int32_t> ids{1, 53};
  EXPECT_THROW(generator.feed(ids), UsageError);
}

}  // namespace
}  // namespace ringbolt
