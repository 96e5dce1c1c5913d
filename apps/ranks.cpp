#include "apps/ranks.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "apps/failure.h"
#include "core/base/error.h"
#include "parallel/launch.h"
#include "parallel/mpi.h"
#include "parallel/threads.h"

namespace ringbolt {
namespace {

int64_t online_cores() { return sysconf(_SC_NPROCESSORS_ONLN); }

/// Those this process may use.
int64_t available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return online_cores();
  return CPU_COUNT(&set);
}

}  // namespace

void RankOptions::declare_communicator(OptionSet& options) {
  options.choice<TensorCommunicator>(
      "communicator", communicator,
      {{"auto", TensorCommunicator::automatic},
       {"copy", TensorCommunicator::copy},
       {"nccl", TensorCommunicator::nccl}},
      "How GPUs exchange tensors: copies (between processes through host memory), or NCCL, which "
      "takes one rank a GPU; auto is NCCL where each process has a GPU of its own");
}

void run_on_ranks(const std::string& command, const RankOptions& options,
                  const std::function<void(Communicator&)>& body) {
  if (find_launch()) {
    if (options.local_ranks > 1) {
      throw UsageError(
          message("--local-ranks cannot be used here",
                  "a launcher has already started this program's ranks",
                  "Leave --local-ranks away, or start the program without a launcher."));
    }
    MpiSession session(options.watchdog_seconds);
    body(session.world());
    session.finish();
  } else if (options.local_ranks > 1) {
    run_thread_ranks(static_cast<int>(options.local_ranks), options.watchdog_seconds, body,
                     [&](const std::exception_ptr& error) {
                       std::_Exit(end_with_failure(command, describe_failure(error)));
                     });
  } else {
    const auto single = make_single_communicator();
    body(*single);
  }
}

int64_t threads_of_rank(int64_t threads, int64_t local_ranks) {
  if (threads > 0) return threads;
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return 0;
  const int64_t cores = available_cores();
  int64_t sharing = std::max<int64_t>(local_ranks, 1);
  const std::optional<Launch>& launch = find_launch();
  // A launcher that binds gives each rank cores of its own; one that does not leaves all to all.
  if (launch && cores == online_cores()) sharing = std::max(launch->local_size, 1);
  return std::max<int64_t>(cores / sharing, 1);
}

}  // namespace ringbolt
