#include "tests/support/emulated_cuda/launch.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <numeric>
#include <vector>

#include "tests/support/emulated_cuda/block.h"
#include "tests/support/emulated_cuda/device.h"
#include "tests/support/emulated_cuda/runtime.h"

namespace ringbolt::emulated_cuda {
namespace {

// "Compute Capabilities" of the CUDA programming guide, those of 9.0; shared memory without asking
// for more.
constexpr uint64_t kMostThreads = 1024;
constexpr uint64_t kMostBlocksX = (uint64_t{1} << 31) - 1;
constexpr uint64_t kMostBlocksYZ = 65535;
constexpr size_t kMostShared = size_t{48} << 10;

bool is_configuration(const cudaLaunchConfig_t& c) {
  const uint64_t threads = uint64_t{c.blockDim.x} * c.blockDim.y * c.blockDim.z;
  const uint64_t blocks = std::min({c.gridDim.x, c.gridDim.y, c.gridDim.z});
  return threads > 0 && threads <= kMostThreads && c.blockDim.z <= 64 && blocks > 0 &&
         c.gridDim.x <= kMostBlocksX && c.gridDim.y <= kMostBlocksYZ &&
         c.gridDim.z <= kMostBlocksYZ;
}

/// Filled with NaNs at the start of each block, and as long as was asked for, to the byte.
class DynamicShared {
 public:
  explicit DynamicShared(size_t bytes) : bytes_(bytes) {
    if (bytes > 0 && posix_memalign(&memory_, 16, bytes) != 0) throw std::bad_alloc();
  }
  DynamicShared(const DynamicShared&) = delete;
  DynamicShared& operator=(const DynamicShared&) = delete;
  ~DynamicShared() { std::free(memory_); }

  void* fresh() {
    if (bytes_ > 0) std::fill_n(static_cast<unsigned char*>(memory_), bytes_, 0xff);
    return memory_;
  }

 private:
  void* memory_ = nullptr;
  size_t bytes_;
};

void run_grid(const cudaLaunchConfig_t& config, const Body& body, uint64_t seed) {
  const dim3 grid = config.gridDim;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  DynamicShared shared(config.dynamicSmemBytes);
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t number = seed % 2 == 0 ? i : blocks - 1 - i;
    const uint64_t rest = number / grid.x;
    const BlockFacts facts{
        {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(rest % grid.y),
         static_cast<unsigned>(rest / grid.y)},
        config.blockDim,
        grid,
        shared.fresh()};
    run_block(facts, body, seed + i);
  }
}

}  // namespace

cudaError_t enqueue_kernel(const cudaLaunchConfig_t& config, const void* kernel,
                           void (*call)(const void*), std::shared_ptr<const void> arguments) {
  static_cast<void>(kernel);
  if (!is_configuration(config)) return refused(cudaErrorInvalidConfiguration);
  if (config.dynamicSmemBytes > kMostShared) return refused(cudaErrorInvalidValue);
  return refused(Device::get().enqueue_seeded(
      config.stream, "kernel", [config, call, arguments = std::move(arguments)](uint64_t seed) {
        run_grid(config, {call, arguments.get()}, seed);
      }));
}

}  // namespace ringbolt::emulated_cuda
