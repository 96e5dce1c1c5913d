// Ranks as threads: every promise of a communicator, and what becomes of ranks that fail or hang.
#include "parallel/threads.h"

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/parallel/conformance.h"

namespace ringbolt {
namespace {

constexpr double kTimeout = 60;

class Threads : public testing::TestWithParam<std::tuple<test::Promise, int>> {};

TEST_P(Threads, Keep) {
  const auto& [promise, ranks] = GetParam();
  std::atomic<int> checked = 0;
  run_thread_ranks(ranks, kTimeout, [&, check = promise.check](Communicator& world) {
    check(world);
    ++checked;
  });
  EXPECT_EQ(checked, ranks);
}

std::string case_name(const testing::TestParamInfo<std::tuple<test::Promise, int>>& info) {
  return concat(std::get<0>(info.param).name, "On", std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(AllPromises, Threads,
                         testing::Combine(testing::ValuesIn(test::promises()),
                                          testing::Values(1, 2, 3, 4, 8)),
                         case_name);

/// What run_thread_ranks throws; "" for nothing.
std::string failure_of(int ranks, double timeout, const std::function<void(Communicator&)>& body) {
  try {
    run_thread_ranks(ranks, timeout, body);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

/// A collective, a while, another: what a training step does.
void work_together(Communicator& world, int rounds) {
  std::vector<float> values(10'000, 1.0F);
  for (int round = 0; round < rounds; ++round) world.all_reduce(std::span(values));
}

TEST(ThreadRanks, EndWithTheFirstErrorWhereverTheOthersAre) {
  for (int failing = 0; failing < 4; ++failing) {
    std::atomic<int> stopped = 0;
    const std::string what = failure_of(4, kTimeout, [&](Communicator& world) {
      try {
        work_together(world, world.rank() + 2);
        if (world.rank() == failing) throw UsageError("the first error");
        work_together(world, 1000);
      } catch (const CommError& error) {
        ++stopped;
        EXPECT_NE(std::string(error.what()).find(concat("rank ", failing, " failed")),
                  std::string::npos)
            << error.what();
        // What failed once fails again, at once.
        EXPECT_THROW(world.barrier(), CommError);
        throw;
      }
    });
    EXPECT_EQ(what, "the first error") << "rank " << failing;
    EXPECT_EQ(stopped, 3);
  }
}

TEST(ThreadRanks, KeepTheTypeOfTheFirstError) {
  EXPECT_THROW(run_thread_ranks(3, kTimeout,
                                [](Communicator& world) {
                                  if (world.rank() == 2) throw IoError("a file");
                                  world.barrier();
                                }),
               IoError);
}

TEST(ThreadRanks, AnErrorDoesNotWaitForTheExchangeItLeaves) {
  // Nobody ever sends what rank 1 posted a receive for.
  const auto start = std::chrono::steady_clock::now();
  const std::string what = failure_of(2, kTimeout, [&](Communicator& world) {
    std::vector<std::byte> buffer(100);
    if (world.rank() == 1) {
      const Request request = world.send_receive(buffer, 0, buffer, 0, Tag::ring_operand);
      throw NumericError("the loss is not finite");
    }
    world.barrier();
  });
  EXPECT_EQ(what, "the loss is not finite");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(ThreadRanks, TheWatchdogNamesRankOperationPeerAndStep) {
  std::atomic<bool> others_ended = false;
  const std::string what = failure_of(3, 0.3, [&](Communicator& world) {
    world.context().step = 17;
    world.barrier();
    if (world.rank() == 1) {  // hangs until the others have complained
      while (!others_ended) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return;
    }
    std::vector<std::byte> all(3);
    try {
      world.all_gather(std::span(all).subspan(static_cast<size_t>(world.rank()), 1), all);
    } catch (const CommError&) {
      others_ended = true;
      throw;
    }
  });
  EXPECT_NE(what.find("waited 0.3 s for rank 1 in the all-gather of step 17 ("), std::string::npos)
      << what;
  EXPECT_NE(what.find("--watchdog-seconds"), std::string::npos) << what;
}

TEST(ThreadRanks, WaitingForARankThatHasEndedIsAnErrorAtOnce) {
  const std::string what = failure_of(2, kTimeout, [](Communicator& world) {
    if (world.rank() == 0) world.barrier();
  });
  EXPECT_NE(what.find("rank 0 waits for rank 1 in the barrier (rank 1 has ended)"),
            std::string::npos)
      << what;
}

TEST(ThreadRanks, SidesOfDifferentSizeAreAnError) {
  const std::string what = failure_of(2, kTimeout, [](Communicator& world) {
    std::vector<std::byte> send(world.rank() == 0 ? 10 : 20), receive(10);
    world.send_receive(send, 1 - world.rank(), receive, 1 - world.rank(), Tag::ring_operand).wait();
  });
  EXPECT_NE(what.find("rank 1 sent 20 bytes and rank 0 expected 10"), std::string::npos) << what;
}

TEST(ThreadRanks, ARankThatNeverEndsIsGivenUp) {
  // give_up must not return: here it ends the hung rank first, so that the test can go on.
  std::atomic<bool> given_up = false;
  std::string what;
  const auto body = [&](Communicator& world) {
    if (world.rank() == 1) {
      while (!given_up) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } else {
      world.barrier();
    }
  };
  const auto give_up = [&](const std::exception_ptr& error) {
    try {
      std::rethrow_exception(error);
    } catch (const CommError& reason) {
      what = reason.what();
    }
    given_up = true;
  };
  EXPECT_THROW(run_thread_ranks(2, 0.2, body, give_up), CommError);
  EXPECT_TRUE(given_up);
  EXPECT_NE(what.find("for rank 1 in the barrier"), std::string::npos) << what;
}

TEST(ThreadRanks, AtLeastOne) {
  EXPECT_THROW(run_thread_ranks(0, 1, [](Communicator&) {}), UsageError);
}

}  // namespace
}  // namespace ringbolt
