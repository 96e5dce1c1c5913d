// Training over MPI is training on one rank: the meshes that the ranks at hand can form.
#include <gtest/gtest.h>

#include <iostream>
#include <string>

#include "tests/parallel/training_on_ranks.h"
#include "tests/support/ranks_main.h"

namespace ringbolt {
namespace {

using namespace testing_support;

// As in training_test.cpp, which has the reasons.
constexpr double kBound = 3e-7;
constexpr double kWeightBound = 5e-5;

void check(const TrainingCase& c, const RankedCase& ranked) {
  const Trained result = train_on_ranks(test::world(), c, ranked);
  const std::string apart = expect_same_training(result, train_alone(c), kBound, kWeightBound);
  if (test::world().rank() == 0) std::cout << apart;
}

TEST(MpiTraining, OfOneSequenceIsTrainingOnOne) {
  const int n = test::world().size();
  for (const ShardState state : {ShardState::optimizer, ShardState::gradients}) {
    check({.config = untied_model()}, {.mesh = {1, 1, n, 1}, .state = state});
    check({.config = tied_model()},
          {.mesh = {1, 1, n, 1}, .layout = LayoutKind::striped, .state = state});
  }
}

TEST(MpiTraining, OfSeparateDocumentsIsTrainingOnOne) {
  check({.config = untied_model(), .batch_size = 2, .separate_documents = true},
        {.mesh = {1, 1, test::world().size(), 1},
         .choice = {AttentionStrategy::ring, RingBackward::queries}});
}

TEST(MpiTraining, WithDataAndHeadRanksIsTrainingOnOne) {
  const int n = test::world().size();
  if (n % 2 != 0) GTEST_SKIP() << "an odd number of ranks is one sequence's in these cases";
  check({.config = untied_model(), .batch_size = 2}, {.mesh = {2, 1, n / 2, 1}});
  check({.config = tied_model()}, {.mesh = {1, 1, n / 2, 2}});
}

}  // namespace
}  // namespace ringbolt
