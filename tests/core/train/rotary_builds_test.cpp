// How often rotary tables and frequencies are made: once, not once a step.
#include <gtest/gtest.h>

#include <vector>

#include "core/evaluate/context_loss.h"
#include "core/train/training_step.h"
#include "rope/method.h"
#include "rope/position_maps.h"
#include "rope/table.h"

namespace ringbolt {
namespace {

constexpr int64_t kLength = 9;
constexpr int kSteps = 4;

void read_tokens(int64_t begin, std::span<int32_t> out) {
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<int32_t>((begin + static_cast<int64_t>(i)) * 7 % 19);
}

/// A small model, and a count of what is made for it.
struct Counted {
  Counted() { initialise(*backend, store, 1); }

  RotaryTables tables() {
    return [this](std::span<const int64_t> positions) {
      ++tables_made;
      return make_rotary_table(*backend, method, positions);
    };
  }
  /// Steps of three micro-batches.
  void train(SequencePositions positions = {}) {
    WholePlacement placement(*backend);
    TrainingRecipe recipe;
    recipe.context_length = kLength;
    recipe.batch_size = 2;
    recipe.gradient_accumulation = 3;
    TrainingStep step(model, store, placement, recipe,
                      TrainingData(SequenceOrder(400, kLength, recipe.seed), read_tokens), tables(),
                      std::move(positions));
    for (int i = 1; i <= kSteps; ++i) static_cast<void>(step.run(i));
  }

  std::unique_ptr<Backend> backend = make_cpu_backend(1);
  ModelConfig config = model_shape("dim=16,layers=2,heads=2,vocab=19");
  ResidentParameters store{*backend, config, DType::f32, StorePurpose::training};
  Transformer model{*backend, store};
  RotaryMethod method{config};
  int tables_made = 0;
};

TEST(RotaryBuilds, TrainingMakesOneTableForAllStepsLayersAndMicroBatches) {
  Counted c;
  c.train();
  EXPECT_EQ(c.tables_made, 1);
}

TEST(RotaryBuilds, PositionsThatChangeNeedTablesButNoFrequencies) {
  Counted c;
  c.train([](int64_t sequence) { return pose_positions({1, sequence}, kLength, 4 * kLength); });
  EXPECT_EQ(c.tables_made, kSteps * 3);
  EXPECT_EQ(c.method.schedules_made(), 1);
}

TEST(RotaryBuilds, EvaluationMakesOneTableForPassesOfOneSize) {
  Counted c;
  EvaluationProtocol protocol{.context_length = kLength, .windows = 12};
  protocol.tokens_per_pass = 3 * kLength;
  WholePlacement placement(*c.backend);
  const ContextLoss loss =
      evaluate_context(c.model, placement, protocol, 400, read_tokens, c.tables());
  EXPECT_EQ(loss.windows, 12);  // four passes
  EXPECT_EQ(c.tables_made, 1);
}

}  // namespace
}  // namespace ringbolt
