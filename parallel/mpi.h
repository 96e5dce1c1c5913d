// Ranks as processes, by MPI; buffers are host memory.
//
// MPI is initialised by a session only, so that a run without a launcher costs nothing. All calls
// come from the session's thread. Waits poll: ranks may outnumber cores, and the watchdog keeps its
// time.
#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace ringbolt {

class Transport;

/// MPI from its initialisation to its end; one in the life of a process.
class MpiSession {
 public:
  /// Collective. Throws: NotBuilt where this build has no MPI; UsageError where MPI sees other
  /// ranks than the launcher started.
  explicit MpiSession(double timeout_seconds);
  /// Finalises MPI after finish(). Without it MPI stays as it is, for abort_mpi: an error must not
  /// hang.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  Communicator& world() { return *world_; }
  /// Collective: waits until all ranks have come to their end. Throws: CommError.
  void finish();

 private:
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Communicator> world_;
  bool finished_ = false;
};

/// Ends all ranks with that exit status, whatever they do; this process alone where MPI does not
/// run.
[[noreturn]] void abort_mpi(int status);

/// "Open MPI v4.1.4"; empty where this build has no MPI.
std::string mpi_library();

}  // namespace ringbolt
