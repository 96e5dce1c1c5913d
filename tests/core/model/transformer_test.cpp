// The whole model, forward and backward, against the double-precision oracle.
#include "core/model/transformer.h"

#include <cmath>
#include <utility>

#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/model_under_test.h"
#include "tests/support/reference/model.h"
#include "tests/support/reference/row_wise.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::Batch;
using reference::Values;

/// Grouped heads, a head_dim of its own, an untied head, a linear factor.
ModelConfig grouped() {
  ModelConfig c = model_shape("dim=40,layers=2,heads=4,kv-heads=2,head-dim=16,ffn=52,vocab=67");
  c.rope_theta = 500;
  c.rope_scaling = {.method = RopeMethod::linear, .factor = 2};
  return c;
}
/// A tied head, biases, adjacent pairs, every head with keys of its own.
ModelConfig tied() {
  ModelConfig c = model_shape("dim=24,layers=2,heads=3,ffn=37,vocab=53");
  c.tie_word_embeddings = true;
  c.qkv_bias = true;
  c.rotary_pairing = RotaryPairing::interleaved;
  return c;
}
/// One key head for all, in many layers.
ModelConfig deep() {
  return model_shape("dim=32,layers=5,heads=8,kv-heads=1,head-dim=8,vocab=259");
}

Batch packed_batch(int64_t vocab) {
  Batch batch = reference::causal_batch(random_ids(5, 71, vocab));
  batch.slices = causal_slices(std::vector<int64_t>{0, 1, 30, 71});
  for (int64_t t = 0; t < 71; ++t)
    batch.positions[static_cast<size_t>(t)] = t < 1 ? t : t < 30 ? t - 1 : t - 30;
  batch.targets[0] = batch.targets[29] = -1;
  return batch;
}

class ModelAgainstReference : public BackendTest {
 protected:
  // f32: some hundred roundings of 2^-24 lie behind each gradient. bf16: activations and their
  // gradients are stored with roundings of up to 2^-8 (2^-9.2 in the mean), some eight a layer each
  // way; five layers give sqrt(80) * 2^-9.2 = 1.5 %, and small tensors up to three times that. A
  // wrong term shows from 10 % on.
  double bound() const { return dtype() == DType::bf16 ? 0.05 : 1e-5; }

  void expect_all_close(const reference::Parameters& actual,
                        const reference::Parameters& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (const auto& [name, values] : expected)
      EXPECT_TRUE(close_in_norm(actual.at(name), values, bound())) << name;
  }

  void check(const ModelConfig& config, const Batch& batch) {
    const reference::Parameters parameters = random_parameters(config, dtype());
    const reference::ModelResult expected =
        reference::model_forward_backward(config, parameters, batch);
    ModelUnderTest model(backend(), config, dtype(), parameters);
    const LossSum sum = model.train(batch, Recompute::none, expected.tokens.counted);
    EXPECT_EQ(sum.tokens, expected.tokens.counted);
    EXPECT_NEAR(sum.loss / static_cast<double>(sum.tokens), expected.loss, bound() * expected.loss);
    expect_all_close(model.gradients(), expected.gradients);
  }
};

TEST_P(ModelAgainstReference, LossAndEveryGradientMatchForOneSequence) {
  for (const ModelConfig& config : {grouped(), tied(), deep()}) {
    for (int64_t length : {2, 37, 150}) {
      SCOPED_TRACE(testing::Message() << "dim " << config.hidden_size << ", length " << length);
      check(config, reference::causal_batch(random_ids(3, length, config.vocab_size)));
    }
  }
}

TEST_P(ModelAgainstReference, LossAndEveryGradientMatchForPackedDocuments) {
  check(grouped(), packed_batch(67));
  check(tied(), packed_batch(53));
}

TEST_P(ModelAgainstReference, EvaluationAndNextLogitsMatch) {
  const ModelConfig config = grouped();
  const Batch batch = packed_batch(config.vocab_size);
  const reference::Parameters parameters = random_parameters(config, dtype());
  const reference::ModelResult expected = reference::model_forward(config, parameters, batch);
  ModelUnderTest model(backend(), config, dtype(), parameters);
  WholeSequenceAttention attention(backend(), batch.slices);
  const HostLosses losses =
      model.model().evaluate(batch.ids, batch.targets, model.table(batch), attention);
  EXPECT_TRUE(close_in_norm(losses.losses, expected.tokens.losses, bound()));
  const std::vector<float> logits =
      model.model().next_logits(batch.ids, model.table(batch), attention);
  const Values last(expected.logits.end() - config.vocab_size, expected.logits.end());
  EXPECT_TRUE(close_in_norm(logits, last, bound()));
  if (dtype() == DType::f32) {
    EXPECT_EQ(losses.hits, expected.tokens.hits);
  }
}

TEST_P(ModelAgainstReference, GradientsOfMicroBatchesAddUp) {
  const ModelConfig config = tied();
  const reference::Parameters parameters = random_parameters(config, dtype());
  const Batch first = reference::causal_batch(random_ids(1, 21, config.vocab_size));
  const Batch second = reference::causal_batch(random_ids(2, 34, config.vocab_size));
  ModelUnderTest model(backend(), config, dtype(), parameters);
  model.train(first, Recompute::none, 20, MicroBatch::more_follow);
  model.train(second, Recompute::none, 33);
  reference::Parameters expected =
      reference::model_forward_backward(config, parameters, first).gradients;
  for (const auto& [name, more] :
       reference::model_forward_backward(config, parameters, second).gradients) {
    expected[name] = reference::sum(expected[name], more);
  }
  expect_all_close(model.gradients(), expected);
}

TEST_P(ModelAgainstReference, GradientOfTheAnglesMatchesUnderEveryRecomputePolicy) {
  for (const ModelConfig& config : {grouped(), tied()}) {
    const Batch batch = packed_batch(config.vocab_size);
    const reference::Parameters parameters = random_parameters(config, dtype());
    const Values expected = reference::model_forward_backward(config, parameters, batch).dangles;
    std::vector<float> first;
    for (const Recompute policy :
         {Recompute::none, Recompute::block, Recompute::block_keep_attention}) {
      ModelUnderTest model(backend(), config, dtype(), parameters);
      Tensor dangles = backend().allocate(DType::f32, {71, config.head_dim / 2});
      backend().fill_zero(dangles);
      model.train(batch, policy, 68, MicroBatch::last_of_step, dangles);
      const std::vector<float> actual = download_f32(backend(), dangles);
      EXPECT_TRUE(close_in_norm(actual, expected, bound()));
      if (first.empty()) first = actual;
      EXPECT_EQ(actual, first);
    }
  }
}

TEST_P(ModelAgainstReference, RecomputePoliciesGiveTheSameBits) {
  for (const ModelConfig& config : {grouped(), tied()}) {
    const Batch batch = packed_batch(config.vocab_size);
    const reference::Parameters parameters = random_parameters(config, dtype());
    const auto run = [&](Recompute policy) {
      ModelUnderTest model(backend(), config, dtype(), parameters);
      const double loss = model.train(batch, policy, 68).loss;
      return std::pair(loss, model.gradients());
    };
    const auto keep_all = run(Recompute::none);
    EXPECT_EQ(run(Recompute::block), keep_all);
    EXPECT_EQ(run(Recompute::block_keep_attention), keep_all);
  }
}

TEST_P(ModelAgainstReference, RecomputingTakesLessMemory) {
  const ModelConfig config = deep();
  // Attention costs the square of the tokens, which takes the emulated device minutes for 300.
  const int64_t tokens = GetParam().device == "emulated" ? 100 : 300;
  const Batch batch = reference::causal_batch(random_ids(1, tokens, config.vocab_size));
  ModelUnderTest model(backend(), config, dtype(), random_parameters(config, dtype()));
  const auto peak = [&](Recompute policy) {
    model.train(batch, policy, tokens - 1);
    backend().reset_peak_memory();
    model.train(batch, policy, tokens - 1);
    return backend().memory().peak_bytes;
  };
  const int64_t all = peak(Recompute::none), attention = peak(Recompute::block_keep_attention),
                block = peak(Recompute::block);
  EXPECT_LT(attention, all);
  EXPECT_LT(block, attention);
}

TEST_P(ModelAgainstReference, AStepOfAdamWDecaysMatricesOnly) {
  const ModelConfig config = tied();
  const reference::Parameters parameters = random_parameters(config, dtype());
  ModelUnderTest model(backend(), config, dtype(), parameters);
  model.train(reference::causal_batch(random_ids(1, 40, config.vocab_size)), Recompute::none, 39);
  reference::Parameters expected = parameters;
  const reference::Parameters gradients = model.gradients();
  double squares = 0;
  for (const auto& [name, gradient] : gradients) {
    for (double g : gradient) squares += g * g;
  }
  EXPECT_NEAR(model.store().gradient_norms().model, std::sqrt(squares), 1e-9 * std::sqrt(squares));

  AdamWStep step{.learning_rate = 0.01F,
                 .beta1 = 0.9F,
                 .beta2 = 0.95F,
                 .epsilon = 1e-8F,
                 .weight_decay = 0.3F,
                 .gradient_scale = 0.5F,
                 .step = 1};
  model.store().update(step, step.gradient_scale);
  for (const ParameterGroup& group : parameter_groups(config)) {
    for (const ParameterSpec& spec : group.tensors) {
      AdamWStep own = step;
      if (spec.decay == Decay::no) own.weight_decay = 0;
      Values m = reference::zeros(spec.shape.elements()), v = m;
      reference::adamw(own, gradients.at(spec.name), expected.at(spec.name), m, v);
    }
  }
  const reference::Parameters masters = model.read(ModelUnderTest::Part::master);
  const reference::Parameters weights = model.read(ModelUnderTest::Part::weight);
  for (const auto& [name, values] : expected) {
    EXPECT_TRUE(close_to_largest(masters.at(name), values, 32 * 0x1p-24)) << name;
    EXPECT_EQ(weights.at(name), rounded_to(dtype(), masters.at(name))) << name;
  }
}

RINGBOLT_FOR_EACH_BACKEND(ModelAgainstReference);

TEST(Initialise, DependsOnSeedAndNameAloneAndHasTheStatedDeviations) {
  const auto backend = make_cpu_backend();
  const ModelConfig config = model_shape("dim=64,layers=2,heads=4,vocab=300");
  const auto draw = [&](uint64_t seed) {
    ResidentParameters store(*backend, config, DType::f32, StorePurpose::inference);
    initialise(*backend, store, seed);
    reference::Parameters all;
    store.for_each([&](const ParameterPiece& p) {
      all[p.spec.name] = as_doubles(download_f32(*backend, p.weight));
    });
    return all;
  };
  const reference::Parameters first = draw(1);
  EXPECT_EQ(first, draw(1));
  EXPECT_NE(first.at("lm_head.weight"), draw(2).at("lm_head.weight"));
  EXPECT_NE(first.at("model.layers.0.mlp.up_proj.weight"),
            first.at("model.layers.1.mlp.up_proj.weight"));
  EXPECT_EQ(first.at("model.norm.weight"), Values(64, 1.0));
  const auto deviation = [&](const std::string& name) {
    const Values& x = first.at(name);
    const auto n = static_cast<int64_t>(x.size());
    return std::sqrt(reference::dot(x.data(), x.data(), n) / static_cast<double>(n));
  };
  // Of 4096 and more numbers the deviation is known to 1.1 %: five times that.
  EXPECT_NEAR(deviation("model.embed_tokens.weight"), 0.02, 0.02 * 0.055);
  EXPECT_NEAR(deviation("model.layers.0.self_attn.o_proj.weight"), 0.01, 0.01 * 0.055);
}

TEST(LoadWeights, GivesWhatAMethodAddsItsInitialValuesWhereTheSourceLacksIt) {
  const auto backend = make_cpu_backend();
  ModelConfig config = model_shape("dim=64,layers=1,heads=2,vocab=30");
  config.rope_scaling = {.method = RopeMethod::clex, .factor = 4};
  config.rope_scaling.param_factor = 8;
  const auto read_all = [&](ParameterStore& store) {
    reference::Parameters all;
    store.for_each([&](const ParameterPiece& p) {
      EXPECT_EQ(p.weight.bytes() == p.master.bytes(),
                p.spec.name.find("clex") != std::string::npos);
      all[p.spec.name] = as_doubles(download_f32(*backend, p.master));
    });
    return all;
  };
  ResidentParameters fresh(*backend, config, DType::bf16, StorePurpose::inference);
  initialise(*backend, fresh, 7);
  const reference::Parameters expected = read_all(fresh);
  ResidentParameters loaded(*backend, config, DType::bf16, StorePurpose::inference);
  int64_t read = 0;
  load_weights(
      *backend, loaded,
      [&](const std::string& name, int64_t, std::span<float> out) {
        EXPECT_EQ(name.find("clex"), std::string::npos);
        std::fill(out.begin(), out.end(), 3.0F);
        ++read;
      },
      [](const std::string& name) { return name.find("clex") == std::string::npos; }, 7);
  EXPECT_EQ(read, 12);
  const reference::Parameters actual = read_all(loaded);
  const Values& up = actual.at("model.clex_layer.proj_func.ode_up_proj");
  EXPECT_EQ(up, expected.at("model.clex_layer.proj_func.ode_up_proj"));
  EXPECT_EQ(actual.at("model.clex_layer.proj_func.ode_down_proj"), Values(256 * 16, 0.0));
  // Uniform in +-1/16: of 4096 numbers the largest is within a thousandth of it, and the deviation
  // is known to 1 %.
  const auto [least, most] = std::minmax_element(up.begin(), up.end());
  EXPECT_GT(*most, 0.999 / 16);
  EXPECT_LT(*most, 1.0 / 16);
  EXPECT_LT(*least, -0.999 / 16);
  const double squares = reference::dot(up.data(), up.data(), 4096) / 4096;
  EXPECT_NEAR(std::sqrt(3 * squares), 1.0 / 16, 0.05 / 16);
}

}  // namespace
}  // namespace ringbolt
