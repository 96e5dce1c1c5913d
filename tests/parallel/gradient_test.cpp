// The gradient of every parameter, formed by ranks, against the double-precision reference of the
// whole model.
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "core/model/transformer.h"
#include "parallel/placement.h"
#include "parallel/sharded_parameters.h"
#include "parallel/threads.h"
#include "rope/method.h"
#include "rope/table.h"
#include "tests/parallel/training_on_ranks.h"
#include "tests/support/compare.h"
#include "tests/support/parameters.h"
#include "tests/support/random_values.h"
#include "tests/support/reference/model.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::Batch;
using reference::Parameters;

/// Documents one behind the other; the last token of each has no target.
Batch documents(uint64_t seed, const std::vector<int64_t>& offsets, int64_t vocab) {
  Batch batch;
  batch.ids = random_ids(seed, offsets.back(), vocab);
  batch.slices = causal_slices(offsets);
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    for (int64_t t = offsets[d]; t < offsets[d + 1]; ++t) {
      const bool last = t + 1 == offsets[d + 1];
      batch.targets.push_back(last ? -1 : batch.ids[static_cast<size_t>(t + 1)]);
      batch.positions.push_back(t - offsets[d]);
    }
  }
  return batch;
}

struct MicroBatchCase {
  std::vector<int64_t> offsets;
  Batch batch;
};

struct Expected {
  Parameters gradients;  ///< of the sum of all micro-batches' token losses
  double loss = 0;
  int64_t counted = 0;
};

Expected reference_of(const ModelConfig& config, const Parameters& parameters,
                      const std::vector<MicroBatchCase>& all) {
  Expected expected;
  for (const MicroBatchCase& one : all) {
    const reference::ModelResult result =
        reference::model_forward_backward(config, parameters, one.batch);
    const auto counted = static_cast<double>(result.tokens.counted);
    expected.loss += result.loss * counted;
    expected.counted += result.tokens.counted;
    for (const auto& [name, values] : result.gradients) {
      reference::Values& sum = expected.gradients[name];
      sum.resize(values.size());
      for (size_t i = 0; i < values.size(); ++i) sum[i] += values[i] * counted;
    }
  }
  return expected;
}

/// This rank's share of the micro-batches, one after the other, and its pieces of the gradients
/// added to `all`.
LossSum gradients_on_ranks(Communicator& world, const ModelConfig& config,
                           const Parameters& parameters, const std::vector<MicroBatchCase>& batches,
                           const RankedCase& ranked, Parameters& all) {
  const auto backend = make_cpu_backend(1);
  Mesh mesh(world, ranked.mesh);
  ShardedParameters store(*backend, world, config, DType::f32, ranked.state);
  MeshPlacement placement(*backend, mesh, ranked.layout, ranked.choice);
  load_weights(*backend, store,
               [&](const std::string& name, int64_t first, std::span<float> values) {
                 std::copy_n(parameters.at(name).begin() + first, values.size(), values.begin());
               });
  Transformer model(*backend, store);
  store.zero_gradients();
  LossSum sum;
  for (size_t m = 0; m < batches.size(); ++m) {
    const PlacedTokens& mine = placement.place(batches[m].offsets);
    const RotaryTable table = make_rotary_table(*backend, RotaryMethod(config), mine.positions);
    sum +=
        model.train(mine.pick(batches[m].batch.ids, 0), mine.pick(batches[m].batch.targets, -1),
                    table, *mine.attention, Recompute::block_keep_attention, 1.0F,
                    m + 1 == batches.size() ? MicroBatch::last_of_step : MicroBatch::more_follow);
  }
  placement.sum({&sum, 1});
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  store.for_each([&](const ParameterPiece& p) {
    const std::vector<float> values = download_f32(*backend, p.gradient);
    reference::Values& whole = all[p.spec.name];
    whole.resize(static_cast<size_t>(p.spec.shape.elements()));
    std::copy(values.begin(), values.end(), whole.begin() + p.first);
  });
  return sum;
}

// Some hundred roundings of 2^-24 lie behind each gradient, as on one rank
// (tests/core/model/transformer_test.cpp).
constexpr double kBound = 1e-5;

void check(const ModelConfig& config, const RankedCase& ranked) {
  // Other lengths and other data each time: what an earlier micro-batch left in a buffer would
  // show.
  std::vector<MicroBatchCase> batches;
  uint64_t seed = 20;
  for (const std::vector<int64_t>& offsets :
       {std::vector<int64_t>{0, 71}, {0, 1, 30, 71}, {0, 2, 3, 4, 5, 43}, {0, 97}, {0, 5}}) {
    batches.push_back({offsets, documents(++seed, offsets, config.vocab_size)});
  }
  const Parameters parameters = random_parameters(config, DType::f32);
  const Expected expected = reference_of(config, parameters, batches);
  Parameters actual;
  run_thread_ranks(ranked.mesh.world(), 60, [&](Communicator& world) {
    const LossSum sum = gradients_on_ranks(world, config, parameters, batches, ranked, actual);
    EXPECT_EQ(sum.tokens, expected.counted);
    EXPECT_NEAR(sum.loss, expected.loss, kBound * expected.loss);
  });
  ASSERT_EQ(actual.size(), expected.gradients.size());
  for (const auto& [name, values] : expected.gradients) {
    EXPECT_TRUE(close_in_norm(actual.at(name), values, kBound)) << name;
  }
}

TEST(GradientsOfRanks, MatchTheReferenceForEveryLayout) {
  for (const LayoutKind layout :
       {LayoutKind::contiguous, LayoutKind::zigzag, LayoutKind::striped}) {
    check(untied_model(), {.mesh = {1, 1, 3, 1}, .layout = layout});
    check(tied_model(), {.mesh = {1, 1, 3, 1}, .layout = layout, .state = ShardState::optimizer});
  }
}

TEST(GradientsOfRanks, MatchTheReferenceForEveryStrategy) {
  for (const AttentionStrategy strategy :
       {AttentionStrategy::ring, AttentionStrategy::all_gather}) {
    for (const RingBackward backward : {RingBackward::keys, RingBackward::queries}) {
      check(untied_model(), {.mesh = {1, 1, 3, 1}, .choice = {strategy, backward}});
      check(tied_model(), {.mesh = {1, 1, 3, 2}, .choice = {strategy, backward}});
    }
  }
  check(tied_model(), {.mesh = {1, 2, 3, 1}, .choice = {AttentionStrategy::double_ring}});
}

}  // namespace
}  // namespace ringbolt
