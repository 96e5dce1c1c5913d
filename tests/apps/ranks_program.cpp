// A command in miniature: sums over its ranks, step after step, and fails in the way and on the
// rank that it is told. Ends like `ringbolt`.
//
//   ranks_program LOCAL_RANKS WATCHDOG_SECONDS WHAT [RANK]
//
// WHAT: nothing, throw (each rank its own error), usage (a UsageError), hang (neither ends nor
// waits), stop (stops the process), kill. RANK: who does it, in step 3; without it all do.
#include <csignal>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "apps/failure.h"
#include "apps/ranks.h"
#include "core/base/error.h"

namespace ringbolt {
namespace {

void misbehave(const std::string& what, int rank) {
  if (what == "throw") {
    throw IoError(
        message(concat("rank ", rank, " cannot go on"), "it was told so", "Tell it less."));
  }
  if (what == "usage")
    throw UsageError(message("nobody can go on", "all were told so", "Tell them less."));
  if (what == "hang") {
    while (true) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  if (what == "stop") raise(SIGSTOP);
  if (what == "kill") raise(SIGKILL);
}

void take_steps(Communicator& ranks, const std::string& what, int who) {
  double sum = 0;
  for (int step = 1; step <= 5; ++step) {
    ranks.context().step = step;
    if (step == 3 && (who < 0 || who == ranks.rank())) misbehave(what, ranks.rank());
    sum = ranks.rank() + 1;
    ranks.all_reduce(std::span(&sum, 1));
  }
  if (ranks.rank() == 0) std::cout << "sum " << sum << " over " << ranks.size() << " ranks\n";
}

}  // namespace
}  // namespace ringbolt

int main(int argc, char** argv) {
  using namespace ringbolt;
  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    const int who = words.size() > 3 ? std::stoi(words[3]) : -1;
    run_on_ranks(
        "steps",
        {.local_ranks = std::stoi(words.at(0)), .watchdog_seconds = std::stod(words.at(1))},
        [&](Communicator& ranks) { take_steps(ranks, words.at(2), who); });
    return 0;
  } catch (...) {
    return end_with_failure("steps", describe_failure(std::current_exception()));
  }
}
