// What a launcher (mpirun, srun) says of this process, read from its environment: known before MPI
// is initialised, and in builds without MPI.
#pragma once

#include <functional>
#include <optional>

namespace ringbolt {

struct Launch {
  int rank = 0;
  int size = 0;        ///< 0: the launcher does not say
  int local_size = 0;  ///< ranks on this machine; 0: the launcher does not say
  int local_rank = 0;  ///< among those; as rank where the launcher does not say
};

/// Nothing where this process was started by itself. Asked once: MPI changes the environment later.
const std::optional<Launch>& find_launch();

/// The same from any environment; `value_of` returns nullptr for what is not set.
std::optional<Launch> find_launch_in(const std::function<const char*(const char*)>& value_of);

}  // namespace ringbolt
