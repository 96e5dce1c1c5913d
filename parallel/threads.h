// Ranks as threads of one process: a ring on one machine, without a launcher, under a debugger or a thread sanitizer.
#pragma once

#include <functional>

#include "parallel/communicator.h"

namespace ringbolt {

/// Runs body(rank's communicator) on `ranks` threads and returns when all have ended. A rank that throws ends the waits of
/// all others; the first error is thrown again, not what it caused elsewhere. Thread 0 is the calling one.
/// A rank that neither ends nor waits cannot be ended by a library: after `timeout_seconds` beyond the first error
/// `give_up` is called with that error, and must not return.
void run_thread_ranks(int ranks, double timeout_seconds, const std::function<void(Communicator&)>& body,
                      const std::function<void(const std::exception_ptr&)>& give_up = {});

}  // namespace ringbolt
