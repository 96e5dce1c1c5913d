// Micro-batches on several ranks as CUDA graphs: rings, gathered attention, heads and sharded
// gradients over NCCL's communicator, on the emulated device with a stand-in for NCCL.
#include <gtest/gtest.h>

#include <cstdio>

#include "core/base/error.h"
#include "core/cuda/cuda_backend.h"
#include "parallel/nccl.h"
#include "parallel/threads.h"
#include "tests/parallel/rank_device.h"
#include "tests/parallel/training_on_ranks.h"
#include "tests/support/emulated_cuda/device.h"

namespace ringbolt::testing_support {
namespace {

using emulated_cuda::Device;

constexpr double kTimeout = 60;

RankDevice with_nccl() {
  RankDevice device = on_gpu();
  device.tensors = [](Communicator& world, Backend& backend) {
    return make_nccl_communicator(world, backend);
  };
  return device;
}

TrainingCase small_case() {
  TrainingCase c{.config = untied_model()};
  c.config.num_hidden_layers = 1;
  c.context_length = 13;
  c.steps = 2;
  return c;
}

/// What rank 0 has after the steps, and what it received.
struct Result {
  Trained trained;
  Traffic traffic;
};
Result train(const TrainingCase& c, const RankedCase& ranked) {
  Result result;
  run_thread_ranks(ranked.mesh.world(), kTimeout, [&](Communicator& world) {
    Trained mine = train_on_ranks(world, c, ranked, with_nccl());
    if (world.rank() == 0) result = {std::move(mine), world.context().traffic};
  });
  return result;
}

std::vector<double> numbers_of(const Trained& trained) {
  std::vector<double> all;
  for (const StepResult& s : trained.steps)
    all.insert(all.end(), {s.loss.loss, static_cast<double>(s.loss.hits), s.gradient_norm});
  return all;
}

TEST(RecordedOnRanks, MicroBatchesHaveTheBitsOfThoseRunAsTheyAre) {
  const std::vector<RankedCase> cases{
      {.mesh = {.inner = 2}, .choice = {AttentionStrategy::ring, RingBackward::keys}},
      {.mesh = {.inner = 3},
       .choice = {AttentionStrategy::ring, RingBackward::queries},
       .state = ShardState::optimizer},
      {.mesh = {.outer = 2, .inner = 2},
       .choice = {AttentionStrategy::double_ring, RingBackward::keys}},
      {.mesh = {.inner = 2}, .choice = {AttentionStrategy::all_gather, RingBackward::keys}},
      {.mesh = {.data = 2, .inner = 1, .head = 2}}};
  uint64_t seed = 1;
  for (const RankedCase& ranked : cases) {
    SCOPED_TRACE(testing::Message() << "case " << seed);
    TrainingCase c = small_case();
    Device::get().set_seed(seed);
    const Result eager = train(c, ranked);
    c.recorded = true;
    Device::get().set_seed(++seed);
    const Result recorded = train(c, ranked);
    EXPECT_EQ(numbers_of(recorded.trained), numbers_of(eager.trained));
    EXPECT_EQ(recorded.trained.masters, eager.trained.masters);
    EXPECT_GT(eager.trained.elements, 0);
    // The first micro-batch that others follow and the first last one are run as they are.
    const int64_t micro_batches = c.steps * c.micro_batches / ranked.mesh.data;
    EXPECT_EQ(recorded.trained.replayed, micro_batches - 2);
    EXPECT_EQ(recorded.traffic.received_bytes, eager.traffic.received_bytes);
    EXPECT_EQ(recorded.traffic.messages, eager.traffic.messages);
    EXPECT_GT(recorded.traffic.received_bytes, 0);
  }
  Device::get().set_seed(1);
}

TEST(RecordedOnRanks, CopiesThroughTheHostSayThatTheyCannotBeRecorded) {
  run_thread_ranks(2, kTimeout, [](Communicator& world) {
    const auto backend = make_cuda_backend();
    const auto tensors = make_device_communicator(world, *backend);
    EXPECT_FALSE(tensors->can_be_recorded());
    EXPECT_TRUE(make_nccl_communicator(world, *backend)->can_be_recorded());
    const auto alone = make_single_communicator();
    EXPECT_TRUE(make_device_communicator(*alone, *backend)->can_be_recorded());
  });
}

}  // namespace
}  // namespace ringbolt::testing_support
