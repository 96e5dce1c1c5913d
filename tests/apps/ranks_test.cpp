// How programs on several ranks end: one message, all ranks, the right exit status.
#include <chrono>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/apps/run_program.h"

namespace ringbolt::testing {
namespace {

using Words = std::vector<std::string>;

Outcome with_threads(const Words& arguments) {
  Words words{RANKS_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return Program(CommandLine{words}).wait();
}

Outcome with_mpi(int ranks, const Words& arguments) {
  Words words{RANKS_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_on_mpi(ranks, words);
}

/// As expect_error, of what the program itself wrote among mpirun's lines.
void expect_mpi_error(Outcome outcome, int status, const std::string& part) {
  SCOPED_TRACE(outcome.err);
  outcome.err = own_lines(outcome.err);
  expect_error(outcome, status, part);
}

class OnMpi : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_mpi()) GTEST_SKIP() << "NOT TESTED: this build has no MPI";
  }
};

TEST(OnThreads, RanksWorkTogether) {
  const Outcome outcome = with_threads({"3", "60", "nothing"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "sum 6 over 3 ranks\n");
  EXPECT_EQ(with_threads({"1", "60", "nothing"}).out, "sum 1 over 1 ranks\n");
}

TEST(OnThreads, OneErrorEndsAll) {
  expect_error(with_threads({"4", "60", "throw", "2"}), 3, "rank 2 cannot go on");
  expect_error(with_threads({"4", "60", "usage"}), 2, "nobody can go on");
}

TEST(OnThreads, AHangingRankIsNamedAndGivenUp) {
  for (const char* rank : {"0", "1"}) {
    expect_error(with_threads({"3", "0.3", "hang", rank}), 4,
                 std::string("for rank ") + rank + " in the all-reduce of step 3");
  }
}

TEST_F(OnMpi, RanksWorkTogether) {
  const Outcome outcome = with_mpi(3, {"1", "60", "nothing"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "sum 6 over 3 ranks\n");
  EXPECT_EQ(with_mpi(1, {"1", "60", "nothing"}).out, "sum 1 over 1 ranks\n");
}

TEST_F(OnMpi, ErrorsOfOneRankEndAll) {
  expect_mpi_error(with_mpi(3, {"1", "60", "throw", "0"}), 3, "steps: rank 0 cannot go on");
  expect_mpi_error(with_mpi(3, {"1", "60", "throw", "2"}), 3, "rank 2: rank 2 cannot go on");
}

TEST_F(OnMpi, AnErrorOfAllRanksIsPrintedOnce) {
  expect_mpi_error(with_mpi(4, {"1", "60", "usage"}), 2, "nobody can go on");
}

TEST_F(OnMpi, AStoppedRankIsNamedByTheWatchdog) {
  expect_mpi_error(with_mpi(3, {"1", "0.5", "stop", "1"}), 4,
                   "rank 0 waited 0.5 s for rank 1 in the all-reduce of step 3");
  expect_mpi_error(with_mpi(2, {"1", "0.5", "hang", "0"}), 4,
                   "rank 1 waited 0.5 s for rank 0 in the all-reduce of step 3");
}

TEST_F(OnMpi, AKilledRankEndsAllSoon) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_NE(with_mpi(3, {"1", "60", "kill", "1"}).status, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
}

TEST_F(OnMpi, LocalRanksAreRefused) {
  expect_mpi_error(with_mpi(2, {"2", "60", "nothing"}), 2, "--local-ranks cannot be used here");
}

TEST_F(OnMpi, CommandsForOneRankRefuseMore) {
  expect_mpi_error(run_on_mpi(3, {RINGBOLT_PROGRAM, "generate", "--checkpoint", "nowhere"}), 2,
                   "cannot run on several ranks");
}

TEST_F(OnMpi, HelpVersionAndInfoArePrintedOnce) {
  const Outcome version = run_on_mpi(3, {RINGBOLT_PROGRAM, "--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_EQ(version.out.find("ringbolt"), version.out.rfind("ringbolt")) << version.out;
  const Outcome help = run_on_mpi(3, {RINGBOLT_PROGRAM, "train", "--help"});
  EXPECT_EQ(help.status, 0) << help.err;
  EXPECT_NE(help.out.find("Usage"), std::string::npos) << help.out;
  EXPECT_EQ(help.out.find("Usage"), help.out.rfind("Usage")) << help.out;
  const Outcome info = run_on_mpi(2, {RINGBOLT_PROGRAM, "info"});
  EXPECT_EQ(info.status, 0) << info.err;
  EXPECT_EQ(info.out.find("\nmpi "), info.out.rfind("\nmpi ")) << info.out;
  EXPECT_NE(info.out.find("\nmpi "), std::string::npos) << info.out;
}

}  // namespace
}  // namespace ringbolt::testing
