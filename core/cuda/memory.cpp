#include "core/cuda/memory.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace ringbolt::cuda {

struct Memory::State {
  int device = 0;
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  mutable std::mutex mutex;
  MemoryUse use;

  int64_t recording = 0;  ///< the number of the one under way; 0: none
  int64_t recordings = 0;
  RecordedMemory recorded{};
  int64_t recorded_live_bytes = 0;
  std::vector<void*> postponed;  ///< older blocks that were released in it

  /// The number of the recording that the block belongs to; 0: none.
  int64_t add(int64_t bytes) {
    const std::lock_guard lock(mutex);
    use.live_bytes += bytes;
    use.peak_bytes = std::max(use.peak_bytes, use.live_bytes);
    if (recording != 0) {
      recorded_live_bytes += bytes;
      recorded.peak_bytes = std::max(recorded.peak_bytes, recorded_live_bytes);
      ++recorded.left;
    }
    return recording;
  }
  void release(void* block, int64_t bytes, int64_t of_recording) noexcept;
};

void Memory::State::release(void* block, int64_t bytes, int64_t of_recording) noexcept {
  const std::lock_guard lock(mutex);
  use.live_bytes -= bytes;
  if (of_recording == recording) {
    const cudaError_t status = cudaFreeAsync(block, stream);
    if (recording == 0) return check_quietly(status, "freeing device memory");
    if (status != cudaSuccess) static_cast<void>(cudaGetLastError());  // its end will tell
    recorded_live_bytes -= bytes;
    --recorded.left;
  } else if (of_recording == 0) {
    ++recorded.released_older;
    postponed.push_back(block);
  }  // else the graph's that it outlived, whose end frees it
}

namespace {

[[noreturn]] void throw_out_of_memory(int64_t bytes) {
  size_t free = 0;
  size_t total = 0;
  static_cast<void>(cudaMemGetInfo(&free, &total));
  throw DeviceError(
      message(concat("cannot allocate ", bytes >> 20, " MiB on the GPU"),
              concat(free >> 20, " of its ", total >> 20, " MiB are free"),
              "Try a shorter context, a smaller batch, --recompute block or more ranks."));
}

}  // namespace

Memory::Memory(int device, cudaStream_t stream) : state_(std::make_shared<State>()) {
  state_->device = device;
  state_->stream = stream;
  RINGBOLT_CUDA(cudaDeviceGetDefaultMemPool(&state_->pool, device));
  uint64_t keep =
      std::numeric_limits<uint64_t>::max();  // what a step freed, the next step takes again
  RINGBOLT_CUDA(cudaMemPoolSetAttribute(state_->pool, cudaMemPoolAttrReleaseThreshold, &keep));
}

std::shared_ptr<std::byte> Memory::allocate(int64_t bytes) {
  void* block = nullptr;
  const size_t size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  cudaError_t status = cudaMallocAsync(&block, size, state_->stream);
  if (status == cudaErrorMemoryAllocation && state_->recording == 0) {
    // What the pools keep may be cut into the wrong pieces: give it back, and ask once more.
    static_cast<void>(cudaGetLastError());
    give_back();
    status = cudaMallocAsync(&block, size, state_->stream);
  }
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    throw_out_of_memory(bytes);
  }
  RINGBOLT_CUDA(status);
  const int64_t recording = state_->add(bytes);
  return {static_cast<std::byte*>(block), [state = state_, bytes, recording](std::byte* released) {
            state->release(released, bytes, recording);
          }};
}

void Memory::give_back() {
  RINGBOLT_CUDA(cudaStreamSynchronize(state_->stream));
  RINGBOLT_CUDA(cudaMemPoolTrimTo(state_->pool, 0));
  RINGBOLT_CUDA(cudaDeviceGraphMemTrim(state_->device));
}

void Memory::trim_graphs() noexcept {
  check_quietly(cudaDeviceGraphMemTrim(state_->device), "giving back the memory of graphs");
}

void Memory::begin_recording() {
  const std::lock_guard lock(state_->mutex);
  state_->recording = ++state_->recordings;
  state_->recorded = {};
  state_->recorded_live_bytes = 0;
}

RecordedMemory Memory::end_recording() {
  const std::lock_guard lock(state_->mutex);
  state_->recording = 0;
  for (void* block : std::exchange(state_->postponed, {}))
    check_quietly(cudaFreeAsync(block, state_->stream), "freeing device memory");
  return state_->recorded;
}

void Memory::count_replay(int64_t bytes) {
  const std::lock_guard lock(state_->mutex);
  state_->use.peak_bytes = std::max(state_->use.peak_bytes, state_->use.live_bytes + bytes);
}

MemoryUse Memory::use() const {
  const std::lock_guard lock(state_->mutex);
  return state_->use;
}

void Memory::reset_peak() {
  const std::lock_guard lock(state_->mutex);
  state_->use.peak_bytes = state_->use.live_bytes;
}

}  // namespace ringbolt::cuda
