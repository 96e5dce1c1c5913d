#include "core/cpu/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include <sys/mman.h>

#include "core/base/error.h"

namespace ringbolt::cpu {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

/// Steps of an eighth of a power of two, so that blocks of nearly one size serve one another.
size_t rounded(int64_t bytes) {
  const size_t n = std::max(static_cast<size_t>(bytes), kAlignment);
  const size_t step = std::max(std::bit_floor(n) / 8, kAlignment);
  return (n + step - 1) / step * step;
}

std::byte* system_allocate(size_t bytes) {
  const bool large = bytes >= kHugePage;
  const size_t alignment = large ? kHugePage : kAlignment;
  void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (block == nullptr) {
    throw DeviceError(message(concat("cannot allocate ", bytes >> 20, " MiB"),
                              "the system has no more memory",
                              "Try a shorter context, a smaller batch or --recompute block."));
  }
  if (large)
    madvise(block, bytes, MADV_HUGEPAGE);  // advice only: a refusal costs speed, nothing else
  return static_cast<std::byte*>(block);
}

struct AlignedDelete {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{kAlignment}); }
};

}  // namespace

struct Allocator::Pool {
  mutable std::mutex mutex;
  std::map<size_t, std::vector<std::byte*>> free_blocks;
  MemoryUse use;

  ~Pool() {
    for (auto& [size, blocks] : free_blocks) {
      for (std::byte* block : blocks) std::free(block);
    }
  }

  /// A kept block of this size, or null.
  std::byte* take(size_t size) {
    const auto found = free_blocks.find(size);
    if (found == free_blocks.end() || found->second.empty()) return nullptr;
    std::byte* block = found->second.back();
    found->second.pop_back();
    return block;
  }

  void release_free_blocks() {
    for (auto& [size, blocks] : free_blocks) {
      for (std::byte* block : blocks) std::free(block);
      blocks.clear();
    }
  }
};

Allocator::Allocator() : pool_(std::make_shared<Pool>()) {}

std::shared_ptr<std::byte> Allocator::allocate(int64_t bytes) {
  const size_t size = rounded(bytes);
  std::byte* block = nullptr;
  {
    const std::lock_guard lock(pool_->mutex);
    block = pool_->take(size);
    if (block == nullptr) {
      try {
        block = system_allocate(size);
      } catch (const DeviceError&) {
        pool_->release_free_blocks();
        block = system_allocate(size);
      }
    }
    pool_->use.live_bytes += bytes;
    pool_->use.peak_bytes = std::max(pool_->use.peak_bytes, pool_->use.live_bytes);
  }
  return {block, [pool = pool_, size, bytes](std::byte* released) {
            const std::lock_guard lock(pool->mutex);
            pool->use.live_bytes -= bytes;
            pool->free_blocks[size].push_back(released);
          }};
}

MemoryUse Allocator::use() const {
  const std::lock_guard lock(pool_->mutex);
  return pool_->use;
}

void Allocator::reset_peak() {
  const std::lock_guard lock(pool_->mutex);
  pool_->use.peak_bytes = pool_->use.live_bytes;
}

void* thread_scratch(int64_t bytes) {
  thread_local std::unique_ptr<std::byte, AlignedDelete> memory;
  thread_local int64_t size = 0;
  if (size < bytes) {
    memory.reset();
    memory.reset(static_cast<std::byte*>(
        ::operator new (static_cast<size_t>(bytes), std::align_val_t{kAlignment})));
    std::fill_n(memory.get(), bytes, std::byte{0});
    size = bytes;
  }
  return memory.get();
}

}  // namespace ringbolt::cpu
