// What a launcher (mpirun, srun) says of this process, read from its environment: known before MPI
// is initialised, and in builds without MPI.
#pragma once

#include <optional>

namespace ringbolt {

struct Launch {
  int rank = 0;
  int size = 0;        ///< 0: the launcher does not say
  int local_size = 0;  ///< ranks on this machine; 0: the launcher does not say
};

/// Nothing where this process was started by itself.
std::optional<Launch> find_launch();

}  // namespace ringbolt
