// Stands in for nccl.cpp in builds without NCCL.
#include "core/base/error.h"
#include "parallel/nccl.h"

namespace ringbolt {

// NOLINTNEXTLINE(performance-unnecessary-value-param): the parameters of nccl.cpp
std::unique_ptr<Communicator> make_nccl_communicator(Communicator&, Backend&, GiveUp) {
  throw NotBuilt(
      message("cannot exchange data between GPUs by NCCL", "this build of Ringbolt has no NCCL",
              "Build it with: cmake --workflow --preset cuda, where NCCL is installed."));
}

std::string nccl_library() { return ""; }

}  // namespace ringbolt
