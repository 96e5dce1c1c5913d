// Ranks with a GPU each, by NCCL: what is moved is device memory, in the order of the backend's
// compute stream (parallel/communicator.h). Scalars go over the communicator that it is set up
// with.
//
// Every stream of messages that may run beside another (a ring's blocks, its sums, collectives; of
// every group that is split off) is an NCCL communicator of its own with a stream of its own: two
// that shared one would wait for each other. They are made when first used, by all ranks at once.
// A rank's errors, and ranks that do not answer, are found by a watchdog
// (parallel/device_watchdog.h) which aborts them all; the next call throws what it found.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/backend/backend.h"
#include "parallel/communicator.h"

namespace ringbolt {

/// Called with the failure where NCCL's communicators cannot even be aborted; must not return.
using GiveUp = std::function<void(const std::string&)>;

/// The communicator of the same ranks as `host`, over which it is set up, for tensors of `backend`.
/// Both must outlive it and all that is split from it. Without `give_up` the process then ends with
/// a line on standard error. Collective over `host`. Throws: NotBuilt where this build has no NCCL;
/// UsageError where the backend has no GPU; CommError where the NCCL library is not there or too
/// old.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Backend& backend,
                                                     GiveUp give_up = {});

/// "NCCL 2.28.9", of the library that the program has found; empty where there is none, or this
/// build has none.
std::string nccl_library();

}  // namespace ringbolt
