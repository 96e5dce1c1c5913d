// NCCL's communicator over stand-ins for NCCL and for CUDA's runtime: what ranks exchange, the
// attention and the training that they share, and what becomes of ranks that fail, are lost or
// hang. What NCCL itself does only a GPU can show.
#include "parallel/nccl.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <vector>

#include "core/base/error.h"
#include "parallel/device_watchdog.h"
#include "parallel/threads.h"
#include "tests/parallel/attention_case.h"
#include "tests/parallel/conformance.h"
#include "tests/parallel/fake_cuda.h"
#include "tests/parallel/fake_nccl.h"
#include "tests/parallel/over_device.h"
#include "tests/parallel/rank_device.h"
#include "tests/parallel/training_on_ranks.h"

namespace ringbolt::testing_support {
namespace {

constexpr double kTimeout = 20;

RankDevice with_nccl() {
  RankDevice device;
  device.backend = make_fake_cuda_backend;
  device.tensors = [](Communicator& world, Backend& backend) {
    return make_nccl_communicator(world, backend);
  };
  return device;
}

class Nccl : public testing::Test {
 protected:
  void SetUp() override { reset(); }
  void TearDown() override { reset(); }
  static void reset() {
    FakeNccl& fake = fake_nccl();
    fake.unique_id_result = 0;
    fake.refused_rank = -1;
    fake.failing_rank = -1;
    fake.made = fake.destroyed = fake.aborted = 0;
  }
};

// --- what it promises ----------------------------------------------------------------------------

using PromiseCase = std::tuple<test::Promise, int>;
class NcclPromises : public testing::TestWithParam<PromiseCase> {};

/// All but one: communicators that ranks use for the first time in different orders are not made.
std::vector<test::Promise> nccl_promises() {
  std::vector<test::Promise> kept;
  for (const test::Promise& promise : test::promises()) {
    if (std::string_view(promise.name) != "KeepsCommunicatorsApart") kept.push_back(promise);
  }
  return kept;
}

TEST_P(NcclPromises, Keep) {
  const auto& [promise, ranks] = GetParam();
  std::atomic<int> checked = 0;
  run_thread_ranks(ranks, kTimeout, [&, check = promise.check](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
    test::OverDevice over(make_nccl_communicator(world, *backend), *backend);
    for (const Tag tag : {Tag::ring_operand, Tag::ring_sum}) {  // in one order
      over.send_receive({}, world.rank(), {}, world.rank(), tag).wait();
    }
    check(over);
    ++checked;
  });
  EXPECT_EQ(checked, ranks);
}

std::string promise_name(const testing::TestParamInfo<PromiseCase>& info) {
  return concat(std::get<0>(info.param).name, "On", std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(AllButOne, NcclPromises,
                         testing::Combine(testing::ValuesIn(nccl_promises()),
                                          testing::Values(1, 2, 3, 4)),
                         promise_name);

TEST_F(Nccl, AttentionMatchesTheWholeSequenceInEveryWay) {
  for (const int ranks : {1, 2, 3, 4}) {
    const WholeProblem problem =
        random_problem({0, 17, 18, 61}, AttentionSlice::Mask::causal, {8, 2, 8}, DType::f32, 3);
    run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
      const Outcome outcome = expect_every_way(world, "documents", problem,
                                               attention_bound(DType::f32), 0, with_nccl());
      EXPECT_TRUE(world.rank() != 0 || outcome.cases > 0);
    });
  }
}

TEST_F(Nccl, TenTrainingStepsAreThoseOfOneRankAndEveryCommunicatorEndsInOrder) {
  const TrainingCase c{.config = untied_model()};
  const Trained alone = train_alone(c);
  for (const RankedCase& ranked :
       {RankedCase{.mesh = {}}, RankedCase{.mesh = {.inner = 2}}, RankedCase{.mesh = {.inner = 3}},
        RankedCase{.mesh = {.data = 2, .inner = 2}}, RankedCase{.mesh = {.inner = 2, .head = 2}},
        RankedCase{.mesh = {.outer = 2, .inner = 2},
        .choice = {AttentionStrategy::double_ring, RingBackward::keys}}}) {
    reset();
    run_thread_ranks(ranked.mesh.world(), kTimeout, [&](Communicator& world) {
      const Trained mine = train_on_ranks(world, c, ranked, with_nccl());
      // The bounds are those of tests/parallel/training_test.cpp.
      if (world.rank() == 0)
        std::printf("%s", expect_same_training(mine, alone, 3e-7, 5e-5).c_str());
    });
    EXPECT_GT(fake_nccl().made, 0);
    EXPECT_EQ(fake_nccl().destroyed, fake_nccl().made);
    EXPECT_EQ(fake_nccl().aborted, 0);
  }
}

/// A ring's blocks and its sums have a communicator each, and no group one that it does not use.
TEST_F(Nccl, MakesACommunicatorForEachConcurrentStreamThatIsUsed) {
  run_thread_ranks(2, kTimeout, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
    const auto ranks = make_nccl_communicator(world, *backend);
    const auto unused = ranks->split(0, 0);
    test::DeviceBytes a(*backend, 64), b(*backend, 64), c(*backend, 64), d(*backend, 64);
    const int other = 1 - ranks->rank();
    Request block = ranks->send_receive(a.span(), other, b.span(), other, Tag::ring_operand);
    Request sum = ranks->send_receive(c.span(), other, d.span(), other, Tag::ring_sum);
    sum.wait();
    block.wait();
    backend->synchronize();
  });
  EXPECT_EQ(fake_nccl().made, 2 * 2);
  EXPECT_EQ(fake_nccl().destroyed, 2 * 2);
}

// --- what can go wrong ---------------------------------------------------------------------------

/// What each rank's body threw; "" for nothing. A rank that throws is not the end of the others.
template <class Body>
std::vector<std::string> failures_of(int ranks, double timeout, const Body& body) {
  std::vector<std::string> failures(static_cast<size_t>(ranks));
  run_thread_ranks(ranks, timeout, [&](Communicator& world) {
    try {
      body(world);
    } catch (const std::exception& error) {
      failures[static_cast<size_t>(world.rank())] = error.what();
    }
  });
  return failures;
}

Request exchange(Communicator& ranks, test::DeviceBytes& sent, test::DeviceBytes& received) {
  return ranks.send_receive(sent.span(), (ranks.rank() + 1) % ranks.size(), received.span(),
                            (ranks.rank() + ranks.size() - 1) % ranks.size(), Tag::ring_operand);
}

void expect_in(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

TEST_F(Nccl, NeedsAGpu) {
  const auto world = make_single_communicator();
  const std::unique_ptr<Backend> cpu = make_cpu_backend(1);
  EXPECT_THROW(make_nccl_communicator(*world, *cpu), UsageError);
}

TEST_F(Nccl, ABadIdIsReportedByAllRanks) {
  fake_nccl().unique_id_result = FakeNccl::kSystemError;
  const auto failures = failures_of(3, kTimeout, [](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
    const auto ranks = make_nccl_communicator(world, *backend);
    test::DeviceBytes sent(*backend, 64), received(*backend, 64);
    exchange(*ranks, sent, received).wait();
  });
  for (const std::string& failure : failures)
    expect_in(failure, "rank 0 of a group cannot begin to communicate by NCCL");
}

TEST_F(Nccl, ARankThatCannotBeginSaysSoAndTheOthersSayWhomTheyWaitedFor) {
  fake_nccl().refused_rank = 1;
  const auto failures = failures_of(3, 0.3, [](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
    const auto ranks = make_nccl_communicator(world, *backend);
    test::DeviceBytes sent(*backend, 64), received(*backend, 64);
    exchange(*ranks, sent, received).wait();
  });
  expect_in(failures[1], "rank 1: ncclCommInitRankConfig failed");
  // The first of the others aborts when its time is over; the last one may see that first.
  const auto waited = [&](size_t rank) {
    return failures[rank].find(concat("rank ", rank, " waited 0.3 s for the other 2 ranks")) !=
           std::string::npos;
  };
  EXPECT_TRUE(waited(0) || waited(2)) << failures[0] << '\n' << failures[2];
  for (const size_t other : {0U, 2U}) {
    if (!waited(other)) expect_in(failures[other], concat("rank ", other, ": "));
  }
}

/// Rank 2 stops answering. The streams of the others hold what they wait for; the watchdog aborts
/// it, their hosts come back from synchronize(), and the next call says who waited for whom.
TEST_F(Nccl, ALostRankEndsTheWaitOfTheOthersStreams) {
  const auto failures = failures_of(3, 1.0, [](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
    const auto ranks = make_nccl_communicator(world, *backend);
    test::DeviceBytes sent(*backend, 64), received(*backend, 64);
    exchange(*ranks, sent, received).wait();
    world.context().step = 7;
    if (world.rank() == 2) return;
    exchange(*ranks, sent, received).wait();
    backend->synchronize();
    std::array<double, 1> loss{1.0};
    ranks->all_reduce(std::span<double>(loss));  // nobody reports a number made of it
  });
  EXPECT_EQ(failures[2], "");
  // The first of them names whom it waited for; the other may learn of the abort before its own
  // time is over.
  const std::string late[] = {"rank 0 waited 1 s for ranks 2 and 1 in the ring's block of step 7",
                              "rank 1 waited 1 s for ranks 0 and 2 in the ring's block of step 7"};
  int named = 0;
  for (const int rank : {0, 1}) {
    const std::string& failure = failures[static_cast<size_t>(rank)];
    const bool is_late = failure.find(late[rank]) != std::string::npos;
    named += is_late ? 1 : 0;
    if (!is_late) expect_in(failure, concat("rank ", rank, ": an exchange between GPUs failed"));
  }
  EXPECT_GE(named, 1);
  EXPECT_GT(fake_nccl().aborted, 0);
}

TEST_F(Nccl, AnAsynchronousErrorIsReportedWithItsRank) {
  const auto failures = failures_of(2, kTimeout, [](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
    const auto ranks = make_nccl_communicator(world, *backend);
    test::DeviceBytes sent(*backend, 64), received(*backend, 64);
    exchange(*ranks, sent, received).wait();
    backend->synchronize();
    world.barrier();
    if (world.rank() == 1) fake_nccl().failing_rank = 1;
    if (world.rank() == 0) return;
    for (int poll = 0; poll < 100; ++poll) {  // for the watchdog, or the next exchange, to see it
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ranks->all_reduce(std::span<double>());
      static_cast<void>(poll);
      if (poll == 99) return;
    }
  });
  expect_in(failures[1], "rank 1: an exchange between GPUs failed (an error of the stand-in)");
}

TEST_F(Nccl, AnErrorBetweenPostAndWaitAbortsInsteadOfWaiting) {
  const auto failures = failures_of(2, kTimeout, [](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
    const auto ranks = make_nccl_communicator(world, *backend);
    test::DeviceBytes sent(*backend, 64), received(*backend, 64);
    const Request request = exchange(*ranks, sent, received);
    world.barrier();
    throw NumericError("training diverged");
  });
  for (const std::string& failure : failures) EXPECT_EQ(failure, "training diverged");
  EXPECT_EQ(fake_nccl().destroyed, 0);
  EXPECT_EQ(fake_nccl().aborted, 2);
}

TEST(DeviceWatchdog, GivesUpWhereAnAbortHangs) {
  const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
  std::atomic<bool> given_up = false;
  std::string told;
  {
    DeviceWatchdog watchdog(*backend->transfers(),
                            {.poll = [] { return std::string(); },
                             .abort =
                                 [&] {
                                   while (!given_up)
                                     std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                 },
                             .give_up =
                                 [&](const std::string& what) {
                                   told = what;
                                   given_up = true;  // so that this test goes on
                                 }},
                            0.05);
    watchdog.fail("a rank is lost");
    while (!given_up) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(told, "a rank is lost");
}

/// A rank's own long computation is no other rank's delay.
TEST(DeviceWatchdog, TimesAnExchangeFromWhenTheDeviceIsReadyForIt) {
  const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
  const auto never = std::make_shared<LazyEvent>();
  DeviceWatchdog watchdog(
      *backend->transfers(),
      {.poll = [] { return std::string(); }, .abort = [] {}, .give_up = [](const std::string&) {}});
  // (The mark that never comes stands in for a computation without end.)
  backend->transfers()->transfer_after(cuda_mark_of(never));
  const Mark busy = backend->transfers()->transferred();
  watchdog.watch({.ready = busy, .done = busy, .timeout_seconds = 0.05, .late = "late"});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(watchdog.failure(), "");
  watchdog.watch({.ready = Mark(), .done = busy, .timeout_seconds = 0.05, .late = "late"});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(watchdog.failure(), "late");
  fake_cuda_device()->finish({never});
}

TEST(NcclLibrary, TooOldIsRefusedWithWhatToTry) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";  // a process that has not looked yet
  EXPECT_EXIT(
      {
        fake_nccl().version = 21205;
        const auto world = make_single_communicator();
        const std::unique_ptr<Backend> backend = make_fake_cuda_backend();
        try {
          make_nccl_communicator(*world, *backend);
        } catch (const CommError& error) {
          std::fprintf(stderr, "%s\n", error.what());
          std::_Exit(3);
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(3), "NCCL 2.12.5 \\(NCCL 2.18.0 or newer is needed\\)");
}

TEST(NcclLibrary, HasAVersion) { EXPECT_EQ(nccl_library(), "NCCL 2.28.9"); }

}  // namespace
}  // namespace ringbolt::testing_support
