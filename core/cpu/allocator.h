// Memory of the CPU backend: 64-byte aligned blocks, kept for reuse, because fresh pages cost more
// than most kernels that would touch them first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/backend/backend.h"

namespace ringbolt::cpu {

class Allocator {
 public:
  Allocator();
  /// Uninitialised. Throws: DeviceError when the system has no more. The block may outlive the
  /// allocator.
  std::shared_ptr<std::byte> allocate(int64_t bytes);
  MemoryUse use() const;
  void reset_peak();

 private:
  struct Pool;
  std::shared_ptr<Pool> pool_;
};

/// This thread's scratch of at least `bytes`, aligned to 64, kept from call to call: for the length
/// of one kernel.
void* thread_scratch(int64_t bytes);

}  // namespace ringbolt::cpu
