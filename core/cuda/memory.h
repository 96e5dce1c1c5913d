// Memory of one device, ordered on one stream: a freed block serves the next allocation without the
// host or the device waiting, because both happen in the stream's order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/backend/backend.h"
#include "core/cuda/runtime.h"

namespace ringbolt::cuda {

/// What a recording did with memory.
struct RecordedMemory {
  int64_t peak_bytes;      ///< the most that it allocated and had not yet released
  int64_t left;            ///< blocks that it did not release
  int64_t released_older;  ///< blocks from before it that were released in it
};

class Memory {
 public:
  /// Blocks come from the device's own pool, which keeps what was freed. `stream` must outlive
  /// every block.
  Memory(int device, cudaStream_t stream);

  /// Uninitialised, aligned to 256 bytes; counted. Throws: DeviceError when the device has no more.
  std::shared_ptr<std::byte> allocate(int64_t bytes);
  MemoryUse use() const;
  void reset_peak();

  /// Waits for the stream, and gives back what this pool and that of graphs keep unused.
  void give_back();
  void trim_graphs() noexcept;
  /// Between both the stream is in capture: blocks are the graph's, and released in it. Older ones
  /// that are released meanwhile stay until the end.
  void begin_recording();
  RecordedMemory end_recording();
  /// A replay takes `bytes` besides what is live now.
  void count_replay(int64_t bytes);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Memory that one operation needs for itself: uninitialised, released in the stream's order at the
/// end of the scope.
class Scratch {
 public:
  Scratch(Memory& memory, int64_t bytes) : block_(memory.allocate(bytes)) {}

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(block_.get());
  }

 private:
  std::shared_ptr<std::byte> block_;
};

}  // namespace ringbolt::cuda
