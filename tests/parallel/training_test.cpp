// Training on ranks is training on one: loss, gradient norm and weights after ten steps, for every
// kind of mesh.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <vector>

#include "parallel/threads.h"
#include "tests/parallel/training_on_ranks.h"

namespace ringbolt {
namespace {

using namespace testing_support;

// f32 sums in another order differ by a few 2^-24 of their terms, which mostly cancel in a loss of
// some hundred tokens and in a norm; ten steps keep what is left together. Weights: where a
// gradient cancels to almost nothing, rounding decides how far AdamW steps, up to 3e-3 whatever the
// gradient's size; those few elements stand for the larger bound.
constexpr double kBound = 3e-7;
constexpr double kWeightBound = 5e-5;

void check(const TrainingCase& c, const std::vector<RankedCase>& all, double bound = kBound,
           double weight_bound = kWeightBound) {
  const Trained expected = train_alone(c);
  EXPECT_LT(expected.steps.back().loss.loss, 0.99 * expected.steps.front().loss.loss)
      << "nothing was learnt";
  for (const RankedCase& ranked : all) {
    const int world = ranked.mesh.world();
    SCOPED_TRACE(testing::Message() << world << " ranks, " << ranked.mesh.data << " data, "
                                    << ranked.mesh.head << " head");
    std::vector<Trained> results(static_cast<size_t>(world));
    run_thread_ranks(world, 60, [&](Communicator& ranks) {
      results[static_cast<size_t>(ranks.rank())] = train_on_ranks(ranks, c, ranked);
    });
    std::cout << expect_same_training(results.front(), expected, bound, weight_bound);
    for (const Trained& other : results) {
      EXPECT_EQ(other.steps.back().loss.loss, results.front().steps.back().loss.loss);
      EXPECT_EQ(other.steps.back().gradient_norm, results.front().steps.back().gradient_norm);
      EXPECT_EQ(other.evaluated.total.loss, results.front().evaluated.total.loss);
    }
  }
}

MeshShape mesh(int data, int ring, int head = 1) { return {data, 1, ring, head}; }

constexpr AttentionChoice kQueries{AttentionStrategy::ring, RingBackward::queries};
constexpr AttentionChoice kGather{AttentionStrategy::all_gather};
constexpr AttentionChoice kDouble{AttentionStrategy::double_ring};

TEST(TrainingOnRanks, OfOneSequenceIsTrainingOnOne) {
  for (const ModelConfig& config : {untied_model(), tied_model()}) {
    check({.config = config},
          {{mesh(1, 1)}, {mesh(1, 2)}, {mesh(1, 3)}, {mesh(1, 4)}, {mesh(1, 8)}});
  }
}

TEST(TrainingOnRanks, WithDataRanksTakesTheSameSequences) {
  for (const ShardState state : {ShardState::optimizer, ShardState::gradients}) {
    const auto on = [&](MeshShape shape) { return RankedCase{.mesh = shape, .state = state}; };
    check({.config = tied_model(), .batch_size = 2},
          {on(mesh(2, 1)), on(mesh(2, 2)), on(mesh(4, 1)), on(mesh(2, 3))});
    check({.config = untied_model(), .batch_size = 2}, {on(mesh(2, 2)), on(mesh(4, 2))});
  }
}

TEST(TrainingOnRanks, DoesNotDependOnLayoutOrStrategy) {
  std::vector<RankedCase> all;
  for (const LayoutKind layout :
       {LayoutKind::contiguous, LayoutKind::zigzag, LayoutKind::striped}) {
    all.push_back({mesh(1, 3), layout, kQueries});
    all.push_back({mesh(1, 3), layout, kGather});
    all.push_back({{1, 2, 2, 1}, layout, kDouble});
    all.push_back({mesh(1, 2, 2), layout});
    all.push_back({mesh(1, 1, 4), layout});
  }
  check({.config = untied_model(), .batch_size = 2, .micro_batches = 2}, all);
}

TEST(TrainingOnRanks, OfSeparateDocumentsIsTrainingOnOne) {
  std::vector<RankedCase> all;
  for (const LayoutKind layout :
       {LayoutKind::contiguous, LayoutKind::zigzag, LayoutKind::striped}) {
    all.push_back({mesh(1, 3), layout});
    all.push_back({mesh(2, 2), layout, kQueries});
    all.push_back({mesh(1, 4), layout, kGather});
  }
  all.push_back({{1, 2, 2, 2}, LayoutKind::zigzag, kDouble});
  check({.config = untied_model(), .batch_size = 3, .separate_documents = true}, all);
}

TEST(TrainingOnRanks, OfSequencesShorterThanTheRanks) {
  check({.config = untied_model(), .context_length = 5, .batch_size = 2},
        {{mesh(1, 8)}, {mesh(1, 4, 2)}});
}

TEST(TrainingOnRanks, WithClexTrainsItsWeightsAsOnOne) {
  const auto on = [](MeshShape shape, ShardState state) {
    return RankedCase{.mesh = shape, .state = state};
  };
  const std::vector<RankedCase> all{on(mesh(1, 1), ShardState::gradients),
                                    on(mesh(1, 2), ShardState::optimizer),
                                    on(mesh(1, 3), ShardState::gradients),
                                    on(mesh(2, 2), ShardState::gradients),
                                    on(mesh(2, 1), ShardState::optimizer),
                                    {.mesh = mesh(1, 3), .layout = LayoutKind::contiguous},
                                    {.mesh = mesh(1, 2, 2)}};
  const TrainingCase joined{.config = clex_model(), .batch_size = 2};
  check(joined, all);
  check({.config = clex_model(), .batch_size = 2, .separate_documents = true}, all);
  const Trained alone = train_alone(joined);
  const std::vector<float>& down = alone.masters.at("model.clex_layer.proj_func.ode_down_proj");
  EXPECT_TRUE(std::any_of(down.begin(), down.end(), [](float x) { return std::abs(x) > 1e-3F; }))
      << "the network was not trained";
}

TEST(TrainingOnRanks, InBf16StaysWithinItsRounding) {
  // Activations, and the gradients of k, v and q, are rounded to 2^-9 of themselves on every rank;
  // the sums of rounded terms differ by about that over the root of their number, and AdamW's first
  // steps are as large for small gradients.
  check({.config = untied_model(), .dtype = DType::bf16},
        {{mesh(1, 2)}, {mesh(2, 2)}, {.mesh = mesh(1, 4), .state = ShardState::optimizer}}, 5e-3,
        2e-2);
}

}  // namespace
}  // namespace ringbolt
