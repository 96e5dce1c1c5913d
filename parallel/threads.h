// Ranks as threads of one process: a ring on one machine, without a launcher, under a debugger or a
// thread sanitizer.
//
// A message is copied once, from the sender's buffer to the receiver's, by whichever of the two
// waits (or tests) first after both have posted; nobody spins, so ranks may outnumber cores.
#pragma once

#include <exception>
#include <functional>

#include "parallel/communicator.h"

namespace ringbolt {

/// Runs body(rank's communicator) on `ranks` threads and returns when all have ended. Thread 0 is
/// the calling one. A rank that throws ends the waits of all others; the first error is thrown
/// again, not what it caused elsewhere. `timeout_seconds` is each rank's context().timeout_seconds
/// at the start.
///
/// A rank that neither ends nor waits cannot be ended by a library: where one is left ten seconds
/// (or `timeout_seconds`, if that is less) after the first error, `give_up` is called with that
/// error, on a thread of its own, and must not return. Without it the call then waits for ever.
void run_thread_ranks(int ranks, double timeout_seconds,
                      const std::function<void(Communicator&)>& body,
                      const std::function<void(const std::exception_ptr&)>& give_up = {});

}  // namespace ringbolt
