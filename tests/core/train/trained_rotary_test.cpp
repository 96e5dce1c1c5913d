// A step with rotary frequencies that have weights of their own: which tokens they are asked for,
// and how they are clipped.
#include "core/train/trained_rotary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/train/training_step.h"
#include "rope/method.h"
#include "rope/table.h"

namespace ringbolt {
namespace {

constexpr int64_t kLength = 9;
constexpr float kGradient = 1e6F;

/// Angles of plain rotation, and a gradient of its own making.
class Recording final : public TrainedRotary {
 public:
  Recording(Backend& backend, const ModelConfig& config) : backend_(backend), method_(config) {}

  const RotaryTable& table(std::span<const SequenceToken> tokens) override {
    std::vector<int64_t> positions;
    for (const SequenceToken& token : tokens) {
      positions.push_back(token.index);
      sequences.push_back(token.sequence);
    }
    EXPECT_EQ(positions, sequence_positions(kLength, std::ssize(tokens) / kLength));
    table_ = make_rotary_table(backend_, method_, positions);
    return table_;
  }
  void angles_complete() override { ++completed; }
  void backward(View gradient) override {
    const std::vector<float> large(static_cast<size_t>(gradient.elements()), kGradient);
    backend_.upload(large.data(), gradient);
    ++backwards;
  }

  std::vector<int64_t> sequences;  ///< of all tokens asked for
  int completed = 0;
  int backwards = 0;

 private:
  Backend& backend_;
  RotaryMethod method_;
  RotaryTable table_;
};

TEST(TrainedRotary, IsAskedForEachMicroBatchAndClippedByItsOwnNorm) {
  const auto backend = make_cpu_backend(1);
  ModelConfig config = model_shape("dim=16,layers=1,heads=2,vocab=19");
  config.rope_scaling = {.method = RopeMethod::clex, .factor = 4};
  config.rope_scaling.param_factor =
      2;  // 64 elements a matrix: no padding, of which the norm would know
  ResidentParameters store(*backend, config, DType::f32, StorePurpose::training);
  initialise(*backend, store, 1);
  Transformer model(*backend, store);
  WholePlacement placement(*backend);
  TrainingRecipe recipe;
  recipe.context_length = kLength;
  recipe.batch_size = 2;
  recipe.gradient_accumulation = 3;
  recipe.clip_norm = 0.01;  // below both norms
  Recording rotary(*backend, config);
  const TokenReader read = [](int64_t begin, std::span<int32_t> out) {
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<int32_t>((begin + static_cast<int64_t>(i)) * 7 % 19);
  };
  TrainingStep step(model, store, placement, recipe,
                    TrainingData(SequenceOrder(400, kLength, recipe.seed), read), RotaryTables(),
                    {}, &rotary);
  const StepResult result = step.run(2);

  EXPECT_EQ(rotary.completed, 3);
  EXPECT_EQ(rotary.backwards, 1);
  std::vector<int64_t> expected;  // the step before took sequences 0 to 5
  for (int64_t sequence = 6; sequence < 12; ++sequence)
    expected.insert(expected.end(), kLength, sequence);
  EXPECT_EQ(rotary.sequences, expected);

  double model_squares = 0, rotary_squares = 0;
  int64_t rotary_elements = 0;
  store.for_each([&](const ParameterPiece& piece) {
    const bool own = piece.spec.owner == ParameterOwner::rotary_method;
    (own ? rotary_squares : model_squares) += backend->sum_of_squares(piece.m);
    if (own) rotary_elements += piece.count;
  });
  // The first moment of a first update is (1 - beta1) times the clipped gradient; roundings of
  // 2^-24.
  EXPECT_GT(result.gradient_norm, recipe.clip_norm);
  EXPECT_LT(result.gradient_norm, 100);
  EXPECT_NEAR(std::sqrt(model_squares), 0.1 * recipe.clip_norm, 1e-9);
  EXPECT_NEAR(std::sqrt(rotary_squares), 0.1 * recipe.clip_norm, 1e-9);
  const double norm =
      static_cast<double>(kGradient) * std::sqrt(static_cast<double>(rotary_elements));
  EXPECT_NEAR(result.rotary_gradient_norm, norm, 1e-6 * norm);
}

}  // namespace
}  // namespace ringbolt
