// Stands in for mpi.cpp in builds without MPI.
#include <cstdlib>

#include "core/base/error.h"
#include "parallel/mpi.h"
#include "parallel/transport.h"

namespace ringbolt {

MpiSession::MpiSession(double) {
  throw NotBuilt(
      message("cannot run on the ranks of a launcher", "this build of Ringbolt has no MPI",
              "Install MPI and configure again, with -D RINGBOLT_MPI=ON, or use --local-ranks."));
}
MpiSession::~MpiSession() = default;
void MpiSession::finish() {}

void abort_mpi(int status) { std::_Exit(status); }

std::string mpi_library() { return ""; }

}  // namespace ringbolt
