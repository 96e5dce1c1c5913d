// The ranks of a run: processes of a launcher, threads of this process, or one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "apps/options.h"
#include "parallel/communicator.h"

namespace ringbolt {

/// How GPUs exchange tensors.
enum class TensorCommunicator { automatic, copy, nccl };

struct RankOptions {
  int64_t local_ranks = 1;  ///< --local-ranks: threads of this process
  double watchdog_seconds =
      600;  ///< --watchdog-seconds: the longest wait of a rank for another; 0: no limit
  TensorCommunicator communicator = TensorCommunicator::automatic;  ///< --communicator

  void declare_communicator(OptionSet& options);
};

/// Runs `body` on every rank: the launcher's where there is one (mpirun, srun), else `local_ranks`
/// threads, each with its own communicator. What the first rank that fails throws comes out of
/// here. `command` stands in the message of a run that has to be given up because a thread neither
/// ends nor waits. Throws: UsageError where a launcher and local_ranks > 1 meet.
void run_on_ranks(const std::string& command, const RankOptions& options,
                  const std::function<void(Communicator&)>& body);

/// How many threads each rank computes with: `threads` if not 0; OMP_NUM_THREADS decides if it is
/// set (0 is returned); else the cores that this process may use, shared by the ranks that share
/// them, at least 1. Each rank's backend takes it: OpenMP's number of threads is one of the calling
/// thread.
int64_t threads_of_rank(int64_t threads, int64_t local_ranks);

}  // namespace ringbolt
