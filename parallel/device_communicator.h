// Exchanges between ranks whose tensors are device memory, over a communicator of host memory.
//
// Blocks go from device to device: copied within a process, through pinned host memory between
// processes (Communicator::send_receive_on). Collectives are made of such exchanges and of the
// backend's own operations, in the order of its compute stream; sums are formed on the device in
// rank order, with the bits that the CPU's communicators give. Scalars go over the host's.
#pragma once

#include <cstdint>
#include <memory>

#include "core/backend/backend.h"
#include "parallel/communicator.h"

namespace ringbolt {

/// The same ranks as `host`, for tensors of `backend`; both must outlive it and all that is split
/// from it. Where those are host memory it is as `host` itself, on messages of its own. Collective
/// over `host`.
std::unique_ptr<Communicator> make_device_communicator(Communicator& host, Backend& backend);

/// What a reduction of `elements` f32 over `ranks` ranks holds besides its operands.
int64_t device_reduction_bytes(int64_t ranks, int64_t elements);

}  // namespace ringbolt
