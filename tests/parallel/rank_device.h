// Where a rank of a test computes, and how its ranks exchange tensors.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "core/backend/backend.h"
#include "core/cuda/cuda_backend.h"
#include "parallel/device_communicator.h"
#include "tests/support/backend_cases.h"
#include "tests/support/lazy_device.h"

namespace ringbolt::testing_support {

/// By default the CPU.
struct RankDevice {
  std::function<std::unique_ptr<Backend>()> backend = [] { return make_cpu_backend(1); };
  std::function<std::unique_ptr<Communicator>(Communicator& world, Backend& backend)> tensors =
      make_device_communicator;
};

/// All ranks of the process on one device with lazy streams (tests/support/lazy_device.h).
inline RankDevice on_lazy_device(uint64_t seed) {
  RankDevice device;
  device.backend = [lazy = make_lazy_device(seed)] { return make_lazy_backend(lazy); };
  return device;
}

/// All ranks on one GPU.
inline RankDevice on_gpu() {
  RankDevice device;
  device.backend = [] { return make_cuda_backend(); };
  return device;
}

/// A kind of device with streams.
struct DeviceKind {
  std::string name;
  std::function<RankDevice(uint64_t seed)> make;
  /// Why it cannot be used here, or "".
  std::function<std::string()> why_not;
};
inline void PrintTo(const DeviceKind& kind, std::ostream* out) { *out << kind.name; }

/// Lazy streams everywhere; a GPU where CUDA is built.
inline std::vector<DeviceKind> device_kinds() {
  std::vector<DeviceKind> kinds{{"lazy", on_lazy_device, [] { return std::string(); }}};
  if (cuda_is_built())
    kinds.push_back({cuda_case(), [](uint64_t) { return on_gpu(); }, [] { return why_no_cuda(); }});
  return kinds;
}

}  // namespace ringbolt::testing_support
