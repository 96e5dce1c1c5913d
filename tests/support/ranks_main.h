// For test programs that run on several MPI ranks: the communicator of all of them.
//
// Tests use EXPECT: a rank that leaves a test early keeps the others waiting, until the watchdog.
#pragma once

#include "parallel/communicator.h"

namespace ringbolt::test {

/// Of all ranks that the launcher started. Valid inside tests.
Communicator& world();

}  // namespace ringbolt::test
