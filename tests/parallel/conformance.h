// What every communicator promises, as checks that run on all ranks of one: the suites of `threads`
// and `mpi` differ only in how they start the ranks.
#pragma once

#include <iosfwd>
#include <vector>

#include "parallel/communicator.h"

namespace ringbolt::test {

struct Promise {
  const char* name;
  /// Collective. Uses EXPECT only: a rank that left early would keep the others waiting.
  void (*check)(Communicator& ranks);
};

const std::vector<Promise>& promises();

void PrintTo(const Promise& promise, std::ostream* out);

}  // namespace ringbolt::test
