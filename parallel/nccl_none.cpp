// Stands in for nccl.cpp in builds without NCCL.
#include "core/base/error.h"
#include "parallel/nccl.h"

namespace ringbolt {

std::unique_ptr<Communicator> make_nccl_communicator(Communicator&, int) {
  throw NotBuilt(message("cannot exchange data between GPUs", "this build of Ringbolt has no NCCL",
                         "Build it with: cmake --workflow --preset cuda"));
}

}  // namespace ringbolt
