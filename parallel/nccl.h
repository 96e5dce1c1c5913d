// Ranks as processes with a GPU each, by NCCL; buffers are device memory.
#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace ringbolt {

/// The communicator of the same ranks as `host`, over which it is set up, for the memory of GPU
/// `device`. Collective over `host`. Throws: NotBuilt where this build has no NCCL.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, int device);

}  // namespace ringbolt
