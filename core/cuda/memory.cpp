#include "core/cuda/memory.h"

#include <algorithm>
#include <limits>
#include <mutex>

#include "core/base/error.h"

namespace ringbolt::cuda {

struct Memory::State {
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  mutable std::mutex mutex;
  MemoryUse use;

  void count(int64_t bytes) {
    const std::lock_guard lock(mutex);
    use.live_bytes += bytes;
    use.peak_bytes = std::max(use.peak_bytes, use.live_bytes);
  }
};

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
  if (status == cudaErrorMemoryAllocation) {
    // What the pool keeps may be cut into the wrong pieces: give it back, and ask once more.
    static_cast<void>(cudaGetLastError());
    RINGBOLT_CUDA(cudaStreamSynchronize(state_->stream));
    RINGBOLT_CUDA(cudaMemPoolTrimTo(state_->pool, 0));
    status = cudaMallocAsync(&block, size, state_->stream);
  }
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    throw_out_of_memory(bytes);
  }
  RINGBOLT_CUDA(status);
  state_->count(bytes);
  return {static_cast<std::byte*>(block), [state = state_, bytes](std::byte* released) {
            check_quietly(cudaFreeAsync(released, state->stream), "freeing device memory");
            state->count(-bytes);
          }};
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
