// The main of test programs on several MPI ranks. Rank 0 prints as usual, others only their
// failures; the exit status of every rank says whether any rank failed; to test nothing is a
// failure.
#include "tests/support/ranks_main.h"

#include <array>
#include <iostream>
#include <sstream>

#include <gtest/gtest.h>

#include "parallel/mpi.h"

namespace ringbolt::test {
namespace {

constexpr double kWatchdogSeconds = 30;
constexpr int kAllSkipped = 77;  ///< CTest is told so by cmake/add_test.cmake

Communicator* the_world = nullptr;

/// Keeps the ranks in step: a test begins when all have ended the one before, whatever became of
/// it.
class StepKeeper final : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { world().barrier(); }
};

class FailurePrinter final : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    std::ostringstream line;
    line << "rank " << world().rank();
    if (test != nullptr) line << ", " << test->test_suite_name() << '.' << test->name();
    const char* const file = result.file_name();
    line << ", " << (file == nullptr ? "?" : file) << ':' << result.line_number() << ": "
         << result.message() << '\n';
    std::cerr << line.str() << std::flush;
  }
};

int run(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  MpiSession session(kWatchdogSeconds);
  the_world = &session.world();
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  if (world().rank() > 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter);
  }
  listeners.Append(new StepKeeper);
  int64_t failed = RUN_ALL_TESTS();
  if (testing::UnitTest::GetInstance()->test_to_run_count() == 0) {
    std::cerr << "no test ran\n";
    failed = 1;
  }
  const int64_t passed = testing::UnitTest::GetInstance()->successful_test_count();
  std::array<int64_t, 2> totals{failed, passed};
  world().all_reduce(std::span(totals));
  session.finish();
  if (totals[0] != 0) return 1;
  return totals[1] == 0 ? kAllSkipped : 0;
}

}  // namespace

Communicator& world() { return *the_world; }

}  // namespace ringbolt::test

int main(int argc, char** argv) {
  try {
    return ringbolt::test::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    ringbolt::abort_mpi(1);
  }
}
