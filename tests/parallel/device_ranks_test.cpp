// Ranks whose tensors lie on a device with streams of its own, as threads: what they exchange, the
// attention that they share and the training that they do together are those of one rank, whatever
// the order in which the streams run.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "core/base/error.h"
#include "parallel/nccl.h"
#include "parallel/threads.h"
#include "tests/parallel/attention_case.h"
#include "tests/parallel/conformance.h"
#include "tests/parallel/over_device.h"
#include "tests/parallel/rank_device.h"
#include "tests/parallel/training_on_ranks.h"

namespace ringbolt::testing_support {
namespace {

constexpr double kTimeout = 120;

using PromiseCase = std::tuple<DeviceKind, test::Promise, int>;

class DeviceThreads : public testing::TestWithParam<PromiseCase> {};

TEST_P(DeviceThreads, Keep) {
  const auto& [kind, promise, ranks] = GetParam();
  if (const std::string why = kind.why_not(); !why.empty()) GTEST_SKIP() << why;
  const RankDevice device = kind.make(static_cast<uint64_t>(ranks));
  std::atomic<int> checked = 0;
  run_thread_ranks(ranks, kTimeout, [&, check = promise.check](Communicator& world) {
    const std::unique_ptr<Backend> backend = device.backend();
    test::OverDevice over(device.tensors(world, *backend), *backend);
    check(over);
    ++checked;
  });
  EXPECT_EQ(checked, ranks);
}

std::string promise_name(const testing::TestParamInfo<PromiseCase>& info) {
  return concat(std::get<0>(info.param).name, "_", std::get<1>(info.param).name, "On",
                std::get<2>(info.param));
}

INSTANTIATE_TEST_SUITE_P(AllPromises, DeviceThreads,
                         testing::Combine(testing::ValuesIn(device_kinds()),
                                          testing::ValuesIn(test::promises()),
                                          testing::Values(1, 2, 3, 4)),
                         promise_name);

class OnDevice : public testing::TestWithParam<std::tuple<DeviceKind, int>> {
 protected:
  void SetUp() override {
    if (const std::string why = kind().why_not(); !why.empty()) GTEST_SKIP() << why;
  }
  const DeviceKind& kind() const { return std::get<0>(GetParam()); }
  int ranks() const { return std::get<1>(GetParam()); }
};

std::string rank_name(const testing::TestParamInfo<std::tuple<DeviceKind, int>>& info) {
  return concat(std::get<0>(info.param).name, "_on", std::get<1>(info.param));
}

/// Every mesh, layout and strategy, an odd length, grouped heads, both types; the bound is that of
/// one rank, for any number of them.
TEST_P(OnDevice, AttentionMatchesTheWholeSequenceInEveryWay) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const uint64_t seed : {1U, 2U, 3U}) {
      const RankDevice device = kind().make(seed);
      const WholeProblem problem =
          random_problem({0, 17, 18, 61}, AttentionSlice::Mask::causal, {8, 2, 8}, dtype, seed);
      Outcome outcome;
      run_thread_ranks(ranks(), kTimeout, [&](Communicator& world) {
        const Outcome mine =
            expect_every_way(world, "documents", problem, attention_bound(dtype), 0, device);
        if (world.rank() == 0) outcome = mine;
      });
      EXPECT_GT(outcome.cases, 0);
      std::printf("  P %d, %s: worst of %lld: %.2e\n", ranks(), name_of(dtype).c_str(),
                  static_cast<long long>(outcome.cases), outcome.worst.worst());
    }
  }
}

/// Blocks of codes with their scales travel as others do.
TEST_P(OnDevice, Fp8AttentionIsTheCpusInEveryWay) {
  const WholeProblem problem =
      random_problem({0, 17, 18, 61}, AttentionSlice::Mask::causal, {8, 2, 16}, DType::bf16, 4);
  const RankDevice devices[] = {RankDevice(), kind().make(6)};
  int compared = 0;
  run_thread_ranks(ranks(), kTimeout, [&](Communicator& world) {
    for (Sharing sharing : all_sharings(ranks(), problem.heads)) {
      sharing.choice.dtype = AttentionDType::fp8_output;
      WholeResult results[2];
      for (size_t i = 0; i < 2; ++i) {
        const std::unique_ptr<Backend> backend = devices[i].backend();
        const std::unique_ptr<Communicator> tensors = devices[i].tensors(world, *backend);
        Meshes meshes(world, *tensors);
        results[i] = solve_on_ranks(*backend, meshes(sharing.mesh), problem, sharing);
      }
      if (world.rank() != 0) continue;
      // A GPU rounds no weights of pieces as short as these: half of what rounding costs.
      const double most = kind().name == "lazy" ? 0 : 0.05;
      EXPECT_LE(errors_of(results[1], results[0]).out, most) << sharing.str();
      EXPECT_LE(errors_of(results[1], results[0]).lse, most / 100) << sharing.str();
      ++compared;
    }
  });
  EXPECT_GE(compared, 3);
}

/// The additions of every sum are in rank order on a device, too.
TEST_P(OnDevice, TrainingHasTheBitsOfTheSameRanksOnTheCpu) {
  TrainingCase c{.config = untied_model()};
  c.steps = 3;
  const RankedCase ranked{.mesh = {.inner = ranks()}};
  std::vector<Trained> results(2);
  const RankDevice devices[] = {RankDevice(), on_lazy_device(7)};
  for (size_t i = 0; i < 2; ++i) {
    run_thread_ranks(ranks(), kTimeout, [&](Communicator& world) {
      Trained mine = train_on_ranks(world, c, ranked, devices[i]);
      if (world.rank() == 0) results[i] = std::move(mine);
    });
  }
  EXPECT_EQ(results[0].elements, results[1].elements);
  EXPECT_EQ(results[0].masters, results[1].masters);
  for (size_t s = 0; s < results[0].steps.size(); ++s) {
    EXPECT_EQ(results[0].steps[s].loss.loss, results[1].steps[s].loss.loss) << "step " << s + 1;
    EXPECT_EQ(results[0].steps[s].gradient_norm, results[1].steps[s].gradient_norm);
  }
}

/// Ten steps are those of one rank: sums in another order round otherwise, and AdamW turns what
/// rounding leaves of tiny gradients into steps.
TEST_P(OnDevice, TenTrainingStepsAreThoseOfOneRank) {
  const TrainingCase c{.config = untied_model()};
  std::vector<RankedCase> cases{{.mesh = {.inner = ranks()}}};
  cases.push_back({.mesh = {.inner = ranks()},
                   .choice = {AttentionStrategy::ring, RingBackward::queries},
                   .state = ShardState::optimizer});
  if (ranks() == 4) {
    cases.push_back(
        {.mesh = {.inner = 2, .head = 2}, .choice = {AttentionStrategy::all_gather, {}}});
    cases.push_back({.mesh = {.outer = 2, .inner = 2},
                     .layout = LayoutKind::striped,
                     .choice = {AttentionStrategy::double_ring, RingBackward::keys}});
    cases.push_back({.mesh = {.data = 2, .inner = 2}});
  }
  const Trained alone = train_alone(c, kind().make(5));  // of the same arithmetic
  for (const RankedCase& ranked : cases) {
    const RankDevice device = kind().make(5);
    std::string apart;
    run_thread_ranks(ranks(), kTimeout, [&](Communicator& world) {
      const Trained mine = train_on_ranks(world, c, ranked, device);
      if (world.rank() == 0) apart = expect_same_training(mine, alone, 3e-7, 5e-5);
    });
    std::printf("%s", apart.c_str());
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, OnDevice,
                         testing::Combine(testing::ValuesIn(device_kinds()),
                                          testing::Values(1, 2, 3, 4)),
                         rank_name);

/// One rank a GPU is all that one GPU allows NCCL: the same code, with itself as its neighbour.
class NcclOnAGpu : public testing::TestWithParam<test::Promise> {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_cuda(); !why.empty()) GTEST_SKIP() << why;
    if (nccl_library().empty()) GTEST_SKIP() << "NOT TESTED: there is no NCCL here";
  }
};

TEST_P(NcclOnAGpu, KeepsWithOneRank) {
  const auto world = make_single_communicator();
  const std::unique_ptr<Backend> backend = make_cuda_backend();
  test::OverDevice over(make_nccl_communicator(*world, *backend), *backend);
  GetParam().check(over);
}

std::vector<test::Promise> where_cuda_is_built() {
  return cuda_is_built() ? test::promises() : std::vector<test::Promise>();
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(NcclOnAGpu);
INSTANTIATE_TEST_SUITE_P(AllPromises, NcclOnAGpu, testing::ValuesIn(where_cuda_is_built()),
                         [](const auto& promise) { return std::string(promise.param.name); });

}  // namespace
}  // namespace ringbolt::testing_support
