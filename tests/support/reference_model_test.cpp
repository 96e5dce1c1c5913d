// The oracle's whole model: every parameter's gradient against finite differences of the loss.
#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/finite_difference.h"
#include "tests/support/parameters.h"
#include "tests/support/reference/model.h"

namespace ringbolt::reference {
namespace {

using testing_support::close_in_norm;
using testing_support::finite_difference;
using testing_support::random_ids;
using testing_support::random_parameters;

ModelConfig small_config() {
  ModelConfig c;
  c.vocab_size = 11;
  c.hidden_size = 6;
  c.intermediate_size = 5;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 4;  // not hidden_size / heads
  c.max_position_embeddings = 16;
  c.rope_theta = 50.0;
  c.rope_scaling = {.method = RopeMethod::linear, .factor = 1.5};
  return c;
}

void expect_gradients_match(const ModelConfig& config, const Batch& batch) {
  Parameters parameters = random_parameters(config, DType::f32);
  const ModelResult result = model_forward_backward(config, parameters, batch);
  int64_t compared = 0;
  for (const auto& [name, gradient] : result.gradients) {
    Values& weight = parameters.at(name);
    const auto loss = [&, &parameters = parameters] {
      return model_forward(config, parameters, batch).loss;
    };
    EXPECT_TRUE(close_in_norm(gradient, finite_difference(weight, loss), 1e-7)) << name;
    compared += static_cast<int64_t>(gradient.size());
  }
  EXPECT_EQ(compared, config.parameter_count());
}

TEST(ReferenceModel, GradientsMatchFiniteDifferences) {
  expect_gradients_match(small_config(), causal_batch(random_ids(1, 7, 11)));
}

TEST(ReferenceModel, GradientsMatchFiniteDifferencesForATiedHeadBiasesAndPackedDocuments) {
  ModelConfig config = small_config();
  config.tie_word_embeddings = true;
  config.qkv_bias = true;
  config.rotary_pairing = RotaryPairing::interleaved;
  Batch batch = causal_batch(random_ids(2, 7, 11));
  batch.positions = {0, 1, 2, 0, 1, 2, 3};
  batch.targets[2] = -1;
  batch.slices = causal_slices(std::vector<int64_t>{0, 3, 7});
  expect_gradients_match(config, batch);
}

TEST(ReferenceModel, GradientOfTheAnglesMatchesFiniteDifferences) {
  for (const RotaryPairing pairing : {RotaryPairing::half_split, RotaryPairing::interleaved}) {
    ModelConfig config = small_config();
    config.rotary_pairing = pairing;
    const Parameters parameters = random_parameters(config, DType::f32);
    Batch batch = causal_batch(random_ids(4, 7, 11));
    batch.angles = testing_support::random_values(5, 7 * config.head_dim / 2, 0, 6);
    const Values gradient = model_forward_backward(config, parameters, batch).dangles;
    const auto loss = [&] { return model_forward(config, parameters, batch).loss; };
    EXPECT_TRUE(close_in_norm(gradient, finite_difference(batch.angles, loss), 1e-7));
  }
}

TEST(ReferenceModel, IsBlindToTheFutureAndToOtherDocuments) {
  const ModelConfig config = small_config();
  const Parameters parameters = random_parameters(config, DType::f32);
  Batch batch = causal_batch(random_ids(3, 7, 11));
  batch.slices = causal_slices(std::vector<int64_t>{0, 3, 7});
  const Values before = model_forward(config, parameters, batch).logits;
  batch.ids[1] = (batch.ids[1] + 1) % 11;
  const Values after = model_forward(config, parameters, batch).logits;
  for (int64_t t = 0; t < 7; ++t) {
    const bool same = std::equal(row(before, t, 11), row(before, t, 11) + 11, row(after, t, 11));
    EXPECT_EQ(same, t < 1 || t >= 3) << "token " << t;
  }
}

}  // namespace
}  // namespace ringbolt::reference
