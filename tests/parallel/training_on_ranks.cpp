#include "tests/parallel/training_on_ranks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/base/random.h"
#include "parallel/placement.h"
#include "rope/clex_training.h"
#include "rope/method.h"
#include "rope/table.h"

namespace ringbolt::testing_support {
namespace {

constexpr int64_t kStream = 1409;

/// A walk with some noise: there is something to learn.
void read_stream(int64_t begin, std::span<int32_t> out, int64_t vocab) {
  const Philox random(11);
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t t = begin + static_cast<int64_t>(i);
    const int64_t noise = static_cast<int64_t>(random.bits(static_cast<uint64_t>(t)) % 3);
    out[i] = static_cast<int32_t>((t * 5 + t / 7 + noise) % vocab);
  }
}

/// Documents of 1 to 50 tokens.
std::vector<int64_t> documents_of_stream() {
  const Philox random(12);
  std::vector<int64_t> offsets{0};
  for (uint64_t d = 0; offsets.back() < kStream; ++d) {
    offsets.push_back(
        std::min(kStream, offsets.back() + 1 + static_cast<int64_t>(random.bits(d) % 50)));
  }
  return offsets;
}

/// `piece_tokens` is for the evaluation behind the last step.
Trained train(const TrainingCase& c, Backend& backend, ParameterStore& store, Placement& placement,
              int64_t piece_tokens) {
  initialise(backend, store, 3);
  Transformer model(backend, store);
  if (c.recorded) model.record_micro_batches();
  TrainingRecipe recipe;
  recipe.context_length = c.context_length;
  recipe.batch_size = c.batch_size;
  recipe.data_ranks = placement.data_ranks();
  recipe.gradient_accumulation = c.micro_batches / recipe.data_ranks;
  recipe.schedule.peak = 3e-3;
  const RotaryTables rotary = [&](std::span<const int64_t> positions) {
    RotaryMethod method(c.config);
    if (c.config.rope_scaling.method == RopeMethod::clex)
      method.set_clex_weights(read_clex_weights(backend, store));
    return make_rotary_table(backend, method, positions, 2 * c.context_length + 1);
  };
  const TokenReader read = [&](int64_t begin, std::span<int32_t> out) {
    read_stream(begin, out, c.config.vocab_size);
  };
  const SequenceOrder order(kStream, c.context_length, recipe.seed);
  std::unique_ptr<ClexTraining> clex;
  if (c.config.rope_scaling.method == RopeMethod::clex) {
    clex = std::make_unique<ClexTraining>(backend, store,
                                          clex_sequences(c.config, c.context_length, recipe.seed));
  }
  TrainingStep step(
      model, store, placement, recipe,
      TrainingData(order, read,
                   c.separate_documents ? documents_of_stream() : std::vector<int64_t>()),
      rotary, {}, clex.get());
  Trained result;
  for (int64_t s = 1; s <= c.steps; ++s) result.steps.push_back(step.run(s));
  result.replayed = model.replayed_micro_batches();
  EvaluationProtocol protocol;
  protocol.context_length = 2 * c.context_length + 1;
  protocol.windows = 5;
  protocol.tokens_per_pass = 300;
  Transformer in_pieces(backend, store, piece_tokens);
  result.evaluated = evaluate_context(in_pieces, placement, protocol, kStream, read, rotary);
  for (const ParameterGroup& group : parameter_groups(c.config)) {
    for (const ParameterSpec& spec : group.tensors) {
      result.masters[spec.name].resize(static_cast<size_t>(spec.shape.elements()));
    }
  }
  store.for_each([&](const ParameterPiece& p) {
    const std::vector<float> values = download_f32(backend, p.master);
    std::copy(values.begin(), values.end(), result.masters[p.spec.name].begin() + p.first);
    result.elements += p.count;
  });
  return result;
}

double relative(double actual, double expected) {
  return std::abs(actual - expected) / std::abs(expected);
}

}  // namespace

ModelConfig untied_model() {
  ModelConfig config = model_shape("dim=32,layers=2,heads=8,kv-heads=4,head-dim=8,ffn=52,vocab=61");
  config.rope_theta = 700;
  return config;
}

ModelConfig clex_model() {
  ModelConfig config = untied_model();
  config.max_position_embeddings = 32;
  config.rope_scaling = {.method = RopeMethod::clex, .factor = 5};
  config.rope_scaling.time_step = 0.1;
  return config;
}

ModelConfig tied_model() {
  return model_shape("dim=32,layers=2,heads=4,kv-heads=4,ffn=37,vocab=53,tied,qkv-bias");
}

Trained train_alone(const TrainingCase& c, const RankDevice& device) {
  const auto backend = device.backend();
  ResidentParameters store(*backend, c.config, c.dtype, StorePurpose::training);
  WholePlacement placement(*backend);
  return train(c, *backend, store, placement, kPieceTokens);
}

Trained train_on_ranks(Communicator& world, const TrainingCase& c, const RankedCase& ranked,
                       const RankDevice& device) {
  const auto backend = device.backend();
  const auto tensors = device.tensors(world, *backend);
  Mesh mesh(world, *tensors, ranked.mesh);
  ShardedParameters store(*backend, *tensors, c.config, c.dtype, ranked.state);
  MeshPlacement placement(*backend, mesh, ranked.layout, ranked.choice);
  Trained result = train(c, *backend, store, placement, 7);
  for (auto& [name, values] : result.masters)
    world.all_reduce(std::span(values));  // others have zeros
  world.all_reduce(std::span(&result.elements, 1));
  return result;
}

std::string expect_same_training(const Trained& actual, const Trained& expected, double bound,
                                 double weight_bound) {
  if (actual.steps.size() != expected.steps.size() ||
      actual.masters.size() != expected.masters.size() ||
      actual.evaluated.buckets.size() != expected.evaluated.buckets.size()) {
    ADD_FAILURE() << "other steps, tensors or buckets";
    return "";
  }
  double worst_loss = 0, worst_norm = 0, worst_weight = 0;
  for (size_t s = 0; s < expected.steps.size(); ++s) {
    const StepResult& a = actual.steps[s];
    const StepResult& e = expected.steps[s];
    EXPECT_EQ(a.loss.tokens, e.loss.tokens) << "step " << s + 1;
    worst_loss = std::max(worst_loss, relative(a.loss.loss, e.loss.loss));
    worst_norm = std::max(worst_norm, relative(a.gradient_norm, e.gradient_norm));
    if (e.rotary_gradient_norm == 0) continue;
    // A thousandth of the model's in so new a model, of sums that mostly cancel: in the first step
    // some hundred roundings apart, later by some times the weights' own distance.
    EXPECT_LE(relative(a.rotary_gradient_norm, e.rotary_gradient_norm),
              s == 0 ? 100 * bound : 20 * weight_bound)
        << "step " << s + 1;
  }
  for (size_t b = 0; b < expected.evaluated.buckets.size(); ++b) {
    EXPECT_EQ(actual.evaluated.buckets[b].tokens, expected.evaluated.buckets[b].tokens);
    worst_loss = std::max(
        worst_loss, relative(actual.evaluated.buckets[b].loss, expected.evaluated.buckets[b].loss));
  }
  EXPECT_EQ(actual.elements, expected.elements);
  for (const auto& [name, values] : expected.masters) {
    const std::vector<float>& others = actual.masters.at(name);
    double difference = 0, norm = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const double e = static_cast<double>(values[i]), a = static_cast<double>(others[i]);
      difference += (a - e) * (a - e);
      norm += e * e;
    }
    worst_weight = std::max(worst_weight, std::sqrt(difference / norm));
  }
  EXPECT_LE(worst_loss, bound);
  EXPECT_LE(worst_norm, bound);
  EXPECT_LE(worst_weight, weight_bound);
  return concat("    ", expected.steps.size(), " steps, ", expected.elements, " weights: loss ",
                worst_loss, ", norm ", worst_norm, ", weights ", worst_weight, " apart\n");
}

}  // namespace ringbolt::testing_support
