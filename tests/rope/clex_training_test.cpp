// Training CLEX's network: what each sequence is rotated by, and the gradient of the whole model's
// loss with respect to the network's weights, by finite differences of the double-precision
// reference.
#include "rope/clex_training.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "core/model/transformer.h"
#include "rope/position_maps.h"
#include "rope/table.h"
#include "tests/support/compare.h"
#include "tests/support/finite_difference.h"
#include "tests/support/parameters.h"
#include "tests/support/random_values.h"
#include "tests/support/reference/model.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::Values;

constexpr int64_t kLength = 17;

ModelConfig clex_model(ClexActivation activation = ClexActivation::tanh) {
  ModelConfig c = model_shape("dim=24,layers=2,heads=3,kv-heads=1,head-dim=8,ffn=37,vocab=53");
  c.rope_theta = 100;
  c.rope_scaling.method = RopeMethod::clex;
  c.rope_scaling.factor = 4;
  c.rope_scaling.original_length = 8;  // so that positions are divided by 2
  c.rope_scaling.param_factor = 2;
  c.rope_scaling.clex_activation = activation;
  c.rope_scaling.time_step = 0.1;
  return c;
}

constexpr const char* kUp = "model.clex_layer.proj_func.ode_up_proj";
constexpr const char* kDown = "model.clex_layer.proj_func.ode_down_proj";

/// Random weights; the network's second layer is small, so that frequencies stay of their order.
reference::Parameters parameters_of(const ModelConfig& config) {
  reference::Parameters all = random_parameters(config, DType::f32);
  for (double& x : all.at(kDown)) x = static_cast<double>(static_cast<float>(0.1 * x));
  return all;
}

void load(Backend& backend, ParameterStore& store, const reference::Parameters& all) {
  load_weights(backend, store, [&](const std::string& name, int64_t first, std::span<float> out) {
    std::transform(all.at(name).begin() + first, all.at(name).begin() + first + std::ssize(out),
                   out.begin(), [](double x) { return static_cast<float>(x); });
  });
}

std::vector<SequenceToken> tokens_of(int64_t first_sequence, int64_t sequences) {
  std::vector<SequenceToken> tokens;
  for (int64_t t = 0; t < sequences * kLength; ++t)
    tokens.push_back({first_sequence + t / kLength, t % kLength});
  return tokens;
}

TEST(ClexSequences, HaveAScaleAndPositionsOfTheirOwn) {
  const ModelConfig config = clex_model();
  const ClexSequences sequences = clex_sequences(config, kLength, 5);
  std::vector<int> seen(5);
  for (int64_t s = 0; s < 400; ++s) {
    const ClexSequence one = sequences(s);
    ASSERT_GE(one.scale, 1);
    ASSERT_LE(one.scale, 4);
    ++seen[static_cast<size_t>(one.scale)];
    EXPECT_EQ(one.divisor, 2);  // floor(17 / 8)
    ASSERT_EQ(one.positions.size(), 17U);
    EXPECT_EQ(one.positions.front(), 0);
    EXPECT_EQ(one.positions.back(), kLength * one.scale - 1);
    EXPECT_TRUE(std::is_sorted(one.positions.begin(), one.positions.end(), std::less_equal<>()));
    const ClexSequence again = clex_sequences(config, kLength, 5)(s);
    EXPECT_EQ(again.scale, one.scale);
    EXPECT_EQ(again.positions, one.positions);
    if (one.scale == 1) {
      EXPECT_EQ(one.positions, sequence_positions(kLength));
    }
  }
  // 100 of each are expected, with a deviation of 8.7: five of them.
  for (int scale = 1; scale <= 4; ++scale)
    EXPECT_NEAR(seen[static_cast<size_t>(scale)], 100, 44) << scale;
  EXPECT_NE(clex_sequences(config, kLength, 6)(1).positions, sequences(1).positions);
}

TEST(ClexSequences, OfAPositionMapHaveTheScaleThatItsReachNeeds) {
  const ClexSequences sequences = clex_sequences(clex_model(), 23, [](int64_t s) {
    return std::vector<int64_t>{s, s + 1};
  });
  EXPECT_EQ(sequences(7).scale, 3);
  EXPECT_EQ(sequences(7).divisor, 1);
  EXPECT_EQ(sequences(7).positions, (std::vector<int64_t>{7, 8}));
}

TEST(ClexTraining, BeginsAsDynamicNtkWithFactorTwo) {
  const auto backend = make_cpu_backend(1);
  const ModelConfig config = clex_model();
  ResidentParameters store(*backend, config, DType::f32, StorePurpose::training);
  initialise(*backend, store, 3);
  ClexTraining training(*backend, store, clex_sequences(config, kLength, 5));
  const std::vector<SequenceToken> tokens = tokens_of(0, 8);
  const RotaryTable& table = training.table(tokens);
  const std::vector<float> cosines = download_f32(*backend, table.cos);
  ModelConfig ntk = config;
  ntk.rope_scaling = {.method = RopeMethod::dynamic_ntk, .factor = 2, .original_length = 8};
  std::set<int64_t> scales;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const ClexSequence sequence = clex_sequences(config, kLength, 5)(tokens[t].sequence);
    scales.insert(sequence.scale);
    const auto frequencies = rotary_schedule(ntk, 8 * sequence.scale).frequencies;
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const auto position =
          static_cast<double>(sequence.positions[static_cast<size_t>(tokens[t].index)]);
      // The solver's error in a frequency (a step of 0.1) times the position.
      EXPECT_NEAR(static_cast<double>(cosines[t * frequencies.size() + i]),
                  std::cos(position / 2 * frequencies[i]), 1e-3);
    }
  }
  EXPECT_GT(scales.size(), 2U);
}

/// The micro-batches of one step, and their loss by the reference for any weights of the network.
class WholeModel {
 public:
  WholeModel(ModelConfig config, ClexSequences sequences)
      : config_(std::move(config)),
        sequences_(std::move(sequences)),
        parameters_(parameters_of(config_)) {
    for (int64_t first : {0, 2}) {
      reference::Batch batch;
      batch.ids = random_ids(static_cast<uint64_t>(first + 1), 2 * kLength, config_.vocab_size);
      batch.targets.assign(batch.ids.begin() + 1, batch.ids.end());
      batch.targets.push_back(-1);
      batch.targets[kLength - 1] = -1;
      batch.slices = causal_slices(std::vector<int64_t>{0, kLength, 2 * kLength});
      batches_.push_back(batch);
    }
  }

  /// The sum of all token losses.
  double loss() {
    const Clex clex(config_, {config_.rope_scaling.param_factor * config_.head_dim,
                              parameters_.at(kUp), parameters_.at(kDown)});
    double sum = 0;
    for (size_t b = 0; b < batches_.size(); ++b) {
      batches_[b].angles.clear();
      for (const SequenceToken& token : tokens_of(2 * static_cast<int64_t>(b), 2)) {
        const ClexSequence s = sequences_(token.sequence);
        const double position = static_cast<double>(s.positions[static_cast<size_t>(token.index)]);
        for (const double frequency : clex.frequencies(static_cast<double>(s.scale)))
          batches_[b].angles.push_back(position / static_cast<double>(s.divisor) * frequency);
      }
      const auto result = reference::model_forward(config_, parameters_, batches_[b]);
      sum += result.loss * static_cast<double>(result.tokens.counted);
    }
    return sum;
  }

  /// By the model: the flat gradient of the rotary group.
  std::vector<float> gradient() {
    const auto backend = make_cpu_backend(1);
    ResidentParameters store(*backend, config_, DType::f32, StorePurpose::training);
    load(*backend, store, parameters_);
    store.zero_gradients();
    Transformer model(*backend, store);
    ClexTraining training(*backend, store, sequences_);
    for (size_t b = 0; b < batches_.size(); ++b) {
      WholeSequenceAttention attention(*backend, batches_[b].slices);
      model.train(batches_[b].ids, batches_[b].targets,
                  training.table(tokens_of(2 * static_cast<int64_t>(b), 2)), attention,
                  Recompute::block_keep_attention, 1.0F, MicroBatch::last_of_step);
      training.angles_complete();
    }
    const int64_t group = rotary_group(config_);
    training.backward(store.gradients(group));
    std::vector<float> first = download_f32(*backend, store.gradients(group));
    training.backward(store.gradients(group));  // nothing is left
    EXPECT_EQ(download_f32(*backend, store.gradients(group)), first);
    return first;
  }

  void check() {
    const std::vector<float> flat = gradient();
    const ParameterGroup group =
        parameter_groups(config_)[static_cast<size_t>(rotary_group(config_))];
    for (const ParameterSpec& spec : group.tensors) {
      const std::vector<float> actual(flat.begin() + spec.offset,
                                      flat.begin() + spec.offset + spec.shape.elements());
      const Values expected = finite_difference(
          parameters_.at(spec.name), [this] { return loss(); }, 1e-4);
      // As of every parameter (tests/core/model/transformer_test.cpp): some hundred roundings of
      // 2^-24. The differences' step is small because a weight moves angles by positions up to 34
      // times as much.
      EXPECT_TRUE(close_in_norm(actual, expected, 1e-5)) << spec.name;
      ++compared_;
    }
    EXPECT_EQ(compared_, 2);
  }

 private:
  int compared_ = 0;
  ModelConfig config_;
  ClexSequences sequences_;
  reference::Parameters parameters_;
  std::vector<reference::Batch> batches_;
};

TEST(ClexTraining, GradientOfTheWholeModelMatchesFiniteDifferences) {
  for (const ClexActivation activation : {ClexActivation::tanh, ClexActivation::silu}) {
    const ModelConfig config = clex_model(activation);
    const ClexSequences sequences = clex_sequences(config, kLength, 5);
    EXPECT_GT(
        std::max({sequences(0).scale, sequences(1).scale, sequences(2).scale, sequences(3).scale}),
        2);
    WholeModel(config, sequences).check();
  }
}

TEST(ClexTraining, GradientMatchesForInterleavedPairsAndMappedPositions) {
  ModelConfig config = clex_model();
  config.rotary_pairing = RotaryPairing::interleaved;
  const auto map = [](int64_t sequence) { return random_positions({1, sequence}, kLength, 31); };
  WholeModel(config, clex_sequences(config, 31, map)).check();
}

TEST(ClexTraining, OfPairsThatDoNotRotateHasNoGradient) {
  ModelConfig config = clex_model();
  config.rope_scaling.rotated_share = 0.5;
  const auto backend = make_cpu_backend(1);
  ResidentParameters store(*backend, config, DType::f32, StorePurpose::training);
  load(*backend, store, parameters_of(config));
  ClexTraining training(*backend, store, clex_sequences(config, kLength, 5));
  const RotaryTable& table = training.table(tokens_of(0, 1));
  const std::vector<float> sines = download_f32(*backend, table.sin);
  for (int64_t t = 0; t < kLength; ++t) EXPECT_EQ(sines[static_cast<size_t>(4 * t + 3)], 0) << t;
  std::vector<float> dangles(static_cast<size_t>(4 * kLength));
  for (size_t t = 0; t < dangles.size(); t += 4)
    dangles[t + 2] = dangles[t + 3] = 1;  // of pairs 2 and 3 alone
  backend->upload(dangles.data(), table.dangles);
  training.angles_complete();
  const View gradient = store.gradients(rotary_group(config));
  training.backward(gradient);
  EXPECT_EQ(backend->sum_of_squares(gradient), 0);
}

}  // namespace
}  // namespace ringbolt
