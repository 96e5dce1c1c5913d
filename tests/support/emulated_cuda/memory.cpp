// Memory of the emulated device: the pool that streams allocate from, which keeps what is released,
// pinned memory of the host, and the addresses of graphs.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/support/emulated_cuda/device.h"

namespace ringbolt::emulated_cuda {
namespace {

constexpr size_t kAlignment = 256;
constexpr int kNaNByte = 0xff;  ///< bytes of a NaN in f32, bf16 and f64, and of -1

void* aligned_memory(size_t bytes) {
  void* memory = nullptr;
  return posix_memalign(&memory, kAlignment, bytes) == 0 ? memory : nullptr;
}

}  // namespace

bool Device::take_from_pool(size_t bytes) {
  const std::lock_guard lock(memory_mutex_);
  if (used_bytes_ + bytes + graph_bytes_ > total_bytes()) return false;
  used_bytes_ += bytes;
  pool_bytes_ = std::max(pool_bytes_, used_bytes_);
  return true;
}

cudaError_t Device::allocate(void** pointer, size_t bytes, CUstream_st* stream) {
  {
    const std::lock_guard lock(mutex_);
    if (checked(stream).capture != nullptr) return allocate_in_graph(pointer, bytes, *stream);
  }
  if (!take_from_pool(bytes)) {
    {
      const std::lock_guard lock(mutex_);
      drain();  // what is released in the streams' order may be enough
    }
    if (!take_from_pool(bytes)) return cudaErrorMemoryAllocation;
  }
  void* memory = aligned_memory(bytes);
  if (memory == nullptr) return cudaErrorMemoryAllocation;
  {
    const std::lock_guard lock(memory_mutex_);
    blocks_.emplace(reinterpret_cast<std::uintptr_t>(memory), Block{bytes, Residence::device});
  }
  *pointer = memory;
  return enqueue(stream, "allocation", [=] { std::memset(memory, kNaNByte, bytes); });
}

cudaError_t Device::release(void* pointer, CUstream_st* stream) {
  {
    const std::lock_guard lock(mutex_);
    if (checked(stream).capture != nullptr) return release_in_graph(pointer, *stream);
    const std::lock_guard memory_lock(memory_mutex_);
    const auto found = blocks_.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found != blocks_.end() && found->second.graph != nullptr)
      found->second.graph->unfreed.erase(pointer);
  }
  return enqueue(stream, "release", [=, this] { free_block(pointer, Residence::device); });
}

void Device::trim_pool() {
  const std::lock_guard lock(memory_mutex_);
  pool_bytes_ = used_bytes_;
}

// --- of graphs -----------------------------------------------------------------------------------

cudaError_t Device::allocate_in_graph(void** pointer, size_t bytes, CUstream_st& stream) {
  void* memory = aligned_memory(bytes);
  if (memory == nullptr) return cudaErrorMemoryAllocation;
  Graph& graph = *stream.capture->graph;
  {
    const std::lock_guard lock(memory_mutex_);
    blocks_.emplace(reinterpret_cast<std::uintptr_t>(memory),
                    Block{bytes, Residence::device, false, &graph});
  }
  graph.memory.push_back({memory, bytes});
  graph.live_bytes += bytes;
  graph.peak_bytes = std::max(graph.peak_bytes, graph.live_bytes);
  *pointer = memory;
  return add_node(stream, {"allocation", [=, this](uint64_t) { set_live(memory, true); }, {}});
}

cudaError_t Device::release_in_graph(void* pointer, CUstream_st& stream) {
  Graph& graph = *stream.capture->graph;
  GraphMemory* memory = graph.find(pointer);
  if (memory == nullptr || memory->released_in_it)
    return spoil(*stream.capture, cudaErrorInvalidValue);
  memory->released_in_it = true;
  graph.live_bytes -= memory->bytes;
  return add_node(stream, {"release", [=, this](uint64_t) { set_live(pointer, false); }, {}});
}

void Device::set_live(void* pointer, bool live) {
  const std::lock_guard lock(memory_mutex_);
  Block& block = blocks_.at(reinterpret_cast<std::uintptr_t>(pointer));
  if (block.live == live) fail("a graph's memory is allocated or released twice");
  block.live = live;
  std::memset(pointer, kNaNByte, block.bytes);
}

void Device::forget_reserved(void* pointer) {
  {
    const std::lock_guard lock(memory_mutex_);
    blocks_.erase(reinterpret_cast<std::uintptr_t>(pointer));
  }
  std::free(pointer);
}

void Device::trim_graph_memory() {
  const std::lock_guard lock(mutex_);
  const std::lock_guard memory_lock(memory_mutex_);
  if (launches_ == 0) graph_bytes_ = 0;
}

// --- of the host, and what is where --------------------------------------------------------------

void* Device::allocate_pinned(size_t bytes) {
  void* memory = aligned_memory(bytes);
  if (memory == nullptr) return nullptr;
  std::memset(memory, kNaNByte, bytes);
  const std::lock_guard lock(memory_mutex_);
  blocks_.emplace(reinterpret_cast<std::uintptr_t>(memory), Block{bytes, Residence::pinned});
  return memory;
}

/// Like CUDA's, waits for the device first.
void Device::release_pinned(void* pointer) {
  {
    const std::lock_guard lock(mutex_);
    drain();
  }
  free_block(pointer, Residence::pinned);
}

void Device::free_block(void* pointer, Residence residence) {
  {
    const std::lock_guard lock(memory_mutex_);
    const auto found = blocks_.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == blocks_.end() || found->second.residence != residence || !found->second.live)
      fail("memory is released that was not allocated, or of another kind, or twice");
    std::memset(pointer, kNaNByte, found->second.bytes);
    if (found->second.graph != nullptr) {  // its addresses stay the graph's
      found->second.live = false;
      return;
    }
    if (residence == Residence::device) used_bytes_ -= found->second.bytes;
    blocks_.erase(found);
  }
  std::free(pointer);
}

std::map<std::uintptr_t, Device::Block>::const_iterator Device::block_of(
    const void* pointer) const {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  auto after = blocks_.upper_bound(address);
  if (after == blocks_.begin()) return blocks_.end();
  --after;
  return address < after->first + after->second.bytes ? after : blocks_.end();
}

Residence Device::residence(const void* pointer) {
  const std::lock_guard lock(memory_mutex_);
  const auto block = block_of(pointer);
  return block == blocks_.end() ? Residence::pageable : block->second.residence;
}

void Device::require_device(const void* pointer, size_t bytes, const char* what) {
  const std::lock_guard lock(memory_mutex_);
  const auto block = block_of(pointer);
  if (block == blocks_.end() || block->second.residence != Residence::device || !block->second.live)
    fail(std::string(what) + ": this is no memory of the device, or it was released");
  if (reinterpret_cast<std::uintptr_t>(pointer) + bytes > block->first + block->second.bytes)
    fail(std::string(what) + ": it ends outside its block of memory");
}

void Device::require_host(const void* pointer, size_t bytes, const char* what) {
  const std::lock_guard lock(memory_mutex_);
  const auto block = block_of(pointer);
  if (block == blocks_.end()) return;
  if (block->second.residence == Residence::device)
    fail(std::string(what) + ": this is memory of the device, not of the host");
  if (reinterpret_cast<std::uintptr_t>(pointer) + bytes > block->first + block->second.bytes)
    fail(std::string(what) + ": it ends outside its block of memory");
}

size_t Device::free_bytes() {
  const std::lock_guard lock(memory_mutex_);
  return total_bytes() - std::min(total_bytes(), pool_bytes_ + graph_bytes_);
}

}  // namespace ringbolt::emulated_cuda
