// Where each rank computes, and how ranks exchange what lies there.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "apps/common_options.h"
#include "apps/ranks.h"
#include "core/backend/backend.h"
#include "parallel/communicator.h"

namespace ringbolt {

/// The same ranks as `world`, for tensors of `backend`, as --communicator says: with `automatic`
/// NCCL where this build has it, ranks are processes and each has a GPU of its own. `command`
/// stands in the message of a run that has to be given up because NCCL cannot be aborted.
/// Collective. Throws: UsageError where NCCL is wanted and cannot be had.
std::unique_ptr<Communicator> make_tensor_communicator(const std::string& command,
                                                       const DeviceOptions& device,
                                                       const RankOptions& options,
                                                       Communicator& world, Backend& backend);

/// What this rank may use: its share of its GPU's memory, or of what its
/// control group lets the processes of this machine use. Collective.
int64_t available_bytes(const DeviceOptions& device, const RankOptions& options,
                        Communicator& world);

}  // namespace ringbolt
