#include "apps/rank_device.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "apps/failure.h"
#include "core/base/error.h"
#include "core/cuda/cuda_backend.h"
#include "io/memory_limit.h"
#include "parallel/device_communicator.h"
#include "parallel/launch.h"
#include "parallel/nccl.h"

namespace ringbolt {
namespace {

/// "host:0000:3b:00.0", zero-filled.
using GpuName = std::array<char, 128>;

GpuName name_of_gpu(int number) {
  GpuName name{};
  gethostname(name.data(), name.size() / 2);
  const std::string place = ":" + cuda_bus_id(number);
  const size_t length = std::strlen(name.data());
  std::copy_n(place.begin(), std::min(place.size(), name.size() - 1 - length),
              name.begin() + static_cast<std::ptrdiff_t>(length));
  return name;
}

/// By rank. Collective.
std::vector<GpuName> names_of_gpus(Communicator& world, int gpu) {
  const GpuName mine = name_of_gpu(gpu);
  std::vector<GpuName> all(static_cast<size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  return all;
}

/// Two ranks with one GPU; none where each has its own. Collective.
std::optional<std::pair<int, int>> sharing_ranks(Communicator& world, int gpu) {
  const std::vector<GpuName> all = names_of_gpus(world, gpu);
  for (auto second = all.begin(); second != all.end(); ++second) {
    const auto first = std::find(all.begin(), second, *second);
    if (first != second)
      return std::pair(static_cast<int>(first - all.begin()),
                       static_cast<int>(second - all.begin()));
  }
  return std::nullopt;
}

std::unique_ptr<Communicator> make_by_nccl(const std::string& command, Communicator& world,
                                           Backend& backend) {
  return make_nccl_communicator(world, backend, [command](const std::string& what) {
    std::_Exit(end_with_failure(command, {kOther, what}));
  });
}

}  // namespace

std::unique_ptr<Communicator> make_tensor_communicator(const std::string& command,
                                                       const DeviceOptions& device,
                                                       const RankOptions& options,
                                                       Communicator& world, Backend& backend) {
  const bool wanted = options.communicator == TensorCommunicator::nccl;
  if (device.device == Device::cpu) {
    if (!wanted) return make_device_communicator(world, backend);
    throw UsageError(message("--communicator nccl does not go with --device cpu",
                             "NCCL moves the memory of GPUs",
                             "Use --device cuda, or leave --communicator out."));
  }
  const bool possible = !nccl_library().empty() && find_launch() && world.size() > 1;
  if (!wanted && (options.communicator == TensorCommunicator::copy || !possible))
    return make_device_communicator(world, backend);
  const auto sharing = sharing_ranks(world, device.gpu_of_rank());
  if (!sharing) return make_by_nccl(command, world, backend);
  if (!wanted) return make_device_communicator(world, backend);
  throw UsageError(message("--communicator nccl cannot be used here",
                           concat("NCCL takes one rank a GPU, and ranks ", sharing->first, " and ",
                                  sharing->second, " share one"),
                           "Start no more ranks than GPUs, or use --communicator copy."));
}

int64_t available_bytes(const DeviceOptions& device, const RankOptions& options,
                        Communicator& world) {
  if (device.device == Device::cuda) {
    const int gpu = device.gpu_of_rank();
    const std::vector<GpuName> all = names_of_gpus(world, gpu);
    const auto mine = all[static_cast<size_t>(world.rank())];
    return cuda_memory_bytes(gpu) / std::count(all.begin(), all.end(), mine);
  }
  const std::optional<Launch>& launch = find_launch();
  const int64_t in_node = std::max<int64_t>(options.local_ranks, launch ? launch->local_size : 1);
  return usable_memory() / std::max<int64_t>(1, in_node);
}

}  // namespace ringbolt
