#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/generate/generator.h"
#include "rope/method.h"
#include "rope/position_maps.h"
#include "rope/table.h"
#include "rope/two_part.h"

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
  for (int i = 0; i < kDraws; ++i)
    ++counts[static_cast<size_t>(sample(logits, {.temperature = 1, .seed = 3}, i))];
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
  ModelConfig config;
  ResidentParameters store{*backend, config, DType::f32, StorePurpose::inference};
  Transformer model{*backend, store};
  RotaryTables tables = [this](std::span<const int64_t> positions) {
    return make_rotary_table(*backend, RotaryMethod(config), positions);
  };
  explicit Fixture(int layers = 3)
      : config(model_shape(concat("dim=40,heads=4,kv-heads=2,ffn=64,vocab=53,layers=", layers))) {
    initialise(*backend, store, 11);
  }
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
    for (size_t i = 0; i < actual.size(); ++i)
      EXPECT_NEAR(actual[i], expected[i], 3e-6F) << "cut " << cut;
  }
}

/// The small model with another rotary method, and what its logits are without a cache.
struct MethodFixture : Fixture {
  explicit MethodFixture(const RopeScaling& scaling, int layers = 3)
      : Fixture(layers), method(with(config, scaling)) {}
  static ModelConfig with(ModelConfig config, const RopeScaling& scaling) {
    config.rope_scaling = scaling;
    validate(config);
    return config;
  }
  GrowingRotation rotation() {
    GrowingRotation r{rotary_tables(*backend, method), method.depends_on_length(), std::nullopt};
    if (is_two_part(method.config().rope_scaling.method))
      r.two_part = two_part_rotation(*backend, method);
    return r;
  }
  std::vector<float> uncached(const std::vector<int32_t>& ids) {
    const auto placement = place_for_method(*backend, method, [&](DistanceRange distances) {
      return std::make_unique<WholePlacement>(*backend, distances);
    });
    const PlacedTokens& placed = placement->place(std::vector<int64_t>{0, std::ssize(ids)});
    return model.next_logits(ids, rotary_tables(*backend, method)(placed.positions),
                             *placed.attention);
  }
  std::vector<float> in_pieces(GrowingRotation rotation, const std::vector<int32_t>& ids) {
    Generator generator(*backend, model, DType::f32, std::move(rotation), 32);
    generator.feed(std::span(ids).first(4));
    generator.feed(std::span(ids).subspan(4, 6));
    return generator.feed(std::span(ids).subspan(10));
  }
  RotaryMethod method;
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a[i] - b[i])));
  return largest;
}

TEST(KvCache, TurnsKeysAnewWhereAnglesDependOnTheLength) {
  const std::vector<int32_t> ids{1, 17, 5, 44, 9, 52, 3, 8, 21, 30, 11};
  for (const RopeMethod method : {RopeMethod::dynamic_ntk, RopeMethod::dynamic_yarn,
                                  RopeMethod::dynamic_linear, RopeMethod::clex}) {
    RopeScaling s{.method = method};
    s.factor = 4;
    s.original_length = 4;
    // One layer: in more, what upper layers hold was computed when the text was shorter.
    MethodFixture f(s, 1);
    const auto expected = f.uncached(ids);
    EXPECT_LT(largest_difference(f.in_pieces(f.rotation(), ids), expected), 3e-6)
        << name_of(method);
    // Keys that were rotated by the angles of their own time would be wrong.
    GrowingRotation stale = f.rotation();
    stale.depends_on_length = false;
    EXPECT_GT(largest_difference(f.in_pieces(stale, ids), expected), 1e-5) << name_of(method);
  }
}

TEST(KvCache, HoldsTheKeysOfBothPartsOfTwoPartAttention) {
  const std::vector<int32_t> ids{1, 17, 5, 44, 9, 52, 3, 8, 21, 30, 11};
  for (const RopeMethod method :
       {RopeMethod::self_extend, RopeMethod::rerope, RopeMethod::leaky_rerope}) {
    RopeScaling s{.method = method};
    s.window = 3;
    s.group = 2;
    s.factor = method == RopeMethod::leaky_rerope ? 4 : 1;
    MethodFixture f(s);
    const auto expected = f.uncached(ids);
    EXPECT_LT(largest_difference(f.in_pieces(f.rotation(), ids), expected), 3e-6)
        << name_of(method);
    EXPECT_GT(largest_difference(MethodFixture(RopeScaling()).uncached(ids), expected), 1e-5)
        << name_of(method);
  }
}

TEST(KvCache, KeepsParallelWindowsApart) {
  const std::vector<int32_t> ids{1, 17, 5, 44, 1, 52, 3, 8, 21, 30, 11};
  const ParallelWindows windows{
      4, 8, true};  // pieces end within a window, with the context, and in the query
  Fixture f;
  const RotaryTables mapped = [&](std::span<const int64_t> positions) {
    return f.tables(parallel_window_positions(positions, windows));
  };
  WholePlacement placement(*f.backend, windows);
  const PlacedTokens& placed = placement.place(std::vector<int64_t>{0, std::ssize(ids)});
  const auto expected = f.model.next_logits(ids, mapped(placed.positions), *placed.attention);
  GrowingRotation rotation{mapped};
  rotation.windows = windows;
  for (const size_t cut : {2U, 6U, 8U, 10U}) {
    Generator generator(*f.backend, f.model, DType::f32, rotation, 32);
    generator.feed(std::span(ids).first(cut));
    EXPECT_LT(largest_difference(generator.feed(std::span(ids).subspan(cut)), expected), 3e-6)
        << cut;
  }
  Generator plain(*f.backend, f.model, DType::f32, GrowingRotation{mapped}, 32);
  EXPECT_GT(largest_difference(plain.feed(ids), expected), 1e-5);
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
