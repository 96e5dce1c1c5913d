// Micro-batches on several ranks as CUDA graphs: rings, gathered attention, heads and sharded
// gradients over NCCL's communicator, on the emulated device with a stand-in for NCCL.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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

TEST(RecordedOnRanks, AReplayThatAnotherRankLeavesAloneIsAbortedAndSaysSo) {
  constexpr double kShort = 0.5;
  std::atomic<bool> over = false;
  run_thread_ranks(2, kShort, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_cuda_backend();
    const auto ranks = make_nccl_communicator(world, *backend);
    const int other = 1 - ranks->rank();
    Tensor sent = backend->allocate(DType::f32, {5}), received = backend->allocate(DType::f32, {5});
    const auto exchange = [&] {
      ranks
          ->send_receive({sent.view().bytes(), 20}, other, {received.view().bytes(), 20}, other,
                         Tag::ring_operand)
          .wait();
    };
    backend->fill_zero(sent);
    exchange();
    const std::unique_ptr<Recording> recording = backend->recorder()->record(exchange);
    recording->replay();
    backend->synchronize();
    EXPECT_EQ(download_f32(*backend, received), std::vector<float>(5, 0.0F));
    if (world.rank() == 1) {
      while (!over) std::this_thread::yield();
      return;
    }
    world.context().step = 7;
    recording->replay();
    backend->synchronize();  // until the watchdog has it aborted
    std::string said;
    try {
      ranks->barrier();
    } catch (const CommError& error) {
      said = error.what();
    }
    over = true;
    EXPECT_NE(
        said.find("rank 0 waited 0.5 s for the other ranks in a recorded micro-batch of step 7"),
        std::string::npos)
        << said;
  });
}

using Counts = std::map<std::string, int64_t>;

/// What all ranks give to the device in one layer's attention, forward and backward, a rank having
/// two halves of 128 tokens.
std::pair<Counts, Counts> counts_of_ring(int ranks) {
  std::pair<Counts, Counts> counts;
  run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_cuda_backend();
    const auto tensors = make_nccl_communicator(world, *backend);
    Mesh mesh(world, *tensors, {.inner = ranks});
    const int64_t tokens = 256;
    const std::vector<int64_t> offsets{0, tokens * ranks};
    const SequenceLayout layout(LayoutKind::zigzag, offsets, ranks, 1);
    const auto attention =
        make_distributed_attention(*backend, mesh, layout, AttentionSlice::Mask::causal, {});
    const auto zeros = [&](DType dtype, Shape shape) {
      Tensor x = backend->allocate(dtype, shape);
      backend->fill_zero(x);
      return x;
    };
    const Shape heads{tokens, 2, 16}, keys{tokens, 2, 16};
    Tensor q = zeros(DType::bf16, heads), kv = zeros(DType::bf16, keys),
           out = zeros(DType::bf16, heads), dout = zeros(DType::bf16, heads),
           dq = zeros(DType::bf16, heads), dkv = zeros(DType::bf16, keys),
           lse = zeros(DType::f32, {tokens, 2});
    const auto counted = [&](Counts& into, const auto& work) {
      for (int repetition = 0; repetition < 2; ++repetition) {  // the first connects the ranks
        backend->synchronize();
        world.barrier();
        if (world.rank() == 0) static_cast<void>(Device::get().take_counts());
        world.barrier();
        work();
        world.barrier();
        if (world.rank() == 0) into = Device::get().take_counts();
        world.barrier();  // the others wait for the device only now
      }
    };
    counted(counts.first, [&] { attention->forward(0, q, kv, out, lse); });
    counted(counts.second, [&] { attention->backward(0, q, kv, dout, out, lse, dq, dkv); });
    backend->synchronize();
    world.barrier();
  });
  return counts;
}

/// Of a rank, averaged: what another ring position costs it.
TEST(RecordedOnRanks, AStepOfARingHasFewLaunches) {
  const auto two = counts_of_ring(2), three = counts_of_ring(3);
  const auto of = [](const std::map<std::string, double>& counts, const std::string& what) {
    return counts.contains(what) ? counts.at(what) : 0;
  };
  const auto step = [&](const Counts& of_two, const Counts& of_three, const char* direction) {
    std::map<std::string, double> each;
    for (const auto& [what, count] : of_three)
      each[what] = static_cast<double>(count) / 3 -
                   (of_two.contains(what) ? static_cast<double>(of_two.at(what)) / 2 : 0);
    std::printf("    a step %s:", direction);
    for (const auto& [what, count] : each)
      if (count != 0) std::printf(" %.2f %s,", count, what.c_str());
    std::printf("\n");
    return each;
  };
  const auto forward = step(two.first, three.first, "forward");
  const auto backward = step(two.second, three.second, "backward");
  EXPECT_NEAR(of(forward, "cuDNN attention"), 1, 1e-9);
  EXPECT_NEAR(of(forward, "kernel"), 1, 1e-9);  // merges the block's result into the running one
  EXPECT_EQ(of(forward, "wait"), 0);
  // The first step's work is done by halves, whose lengths differ with the ranks.
  EXPECT_NEAR(of(backward, "cuDNN attention"), 1, 0.5);
  // log-sum-exps and output for cuDNN; its dq, dk and dv to the sums; the sum that arrived.
  EXPECT_LE(of(backward, "kernel"), 6);
  EXPECT_LE(of(backward, "cudaMemsetAsync"), 1);  // a sum begins with zeros
  EXPECT_EQ(of(backward, "wait"), 0);
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
