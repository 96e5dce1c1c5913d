#include "tests/support/emulated_cuda/device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ringbolt::emulated_cuda {
namespace {

constexpr size_t kMostQueued = 1024;  ///< pieces of work in all streams: beyond, the host waits
constexpr size_t kAlignment = 256;
constexpr int kNaNByte = 0xff;  ///< bytes of a NaN in f32, bf16 and f64, and of -1

uint64_t initial_seed() {
  const char* text = std::getenv("RINGBOLT_EMULATED_CUDA_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

bool may_run(const CUstream_st& stream) {
  if (stream.queue.empty()) return false;
  const auto& waits_for = stream.queue.front().waits_for;
  return waits_for == nullptr || waits_for->happened;
}

}  // namespace

void fail(const std::string& what) {
  std::fprintf(stderr, "emulated CUDA: %s\n", what.c_str());
  std::fflush(nullptr);
  std::abort();
}

Device& Device::get() {
  static Device* device = new Device;  // outlives what destructors of statics may still release
  return *device;
}

Device::Device() { set_seed(initial_seed()); }

void Device::set_seed(uint64_t seed) {
  const std::lock_guard lock(mutex_);
  random_.seed(seed);
  at_once_ = seed == 0;
}

// --- streams, events
// -----------------------------------------------------------------------------

CUstream_st& Device::checked(CUstream_st* stream) {
  const auto is = [&](const auto& known) { return known.get() == stream; };
  if (std::none_of(streams_.begin(), streams_.end(), is))
    fail("a stream is used that does not exist (the default stream is not emulated)");
  return *stream;
}

CUstream_st* Device::create_stream() {
  const std::lock_guard lock(mutex_);
  streams_.push_back(std::make_unique<CUstream_st>());
  return streams_.back().get();
}

void Device::destroy_stream(CUstream_st* stream) {
  synchronize(stream);
  const std::lock_guard lock(mutex_);
  std::erase_if(streams_, [&](const auto& known) { return known.get() == stream; });
}

void Device::append(CUstream_st* stream, Work work) {
  checked(stream).queue.push_back(std::move(work));
  size_t queued = 0;
  for (const auto& each : streams_) queued += each->queue.size();
  if (at_once_ || queued > kMostQueued) return drain();
  if (random_() % 16 != 0) return;
  for (auto pieces = random_() % 8; pieces > 0 && run_one(); --pieces) {
  }
}

cudaError_t Device::enqueue(CUstream_st* stream, const char* what, std::function<void()> run) {
  const std::lock_guard lock(mutex_);
  append(stream, {what, std::move(run), nullptr, nullptr});
  return cudaSuccess;
}

cudaError_t Device::enqueue_seeded(CUstream_st* stream, const char* what,
                                   std::function<void(uint64_t)> run) {
  const std::lock_guard lock(mutex_);
  const uint64_t seed = random_();
  append(stream, {what, [run = std::move(run), seed] { run(seed); }, nullptr, nullptr});
  return cudaSuccess;
}

void Device::record(CUstream_st* stream, CUevent_st& event) {
  const std::lock_guard lock(mutex_);
  event.latest = std::make_shared<Record>();
  append(stream, {"event", [] {}, nullptr, event.latest});
}

void Device::wait(CUstream_st* stream, const CUevent_st& event) {
  const std::lock_guard lock(mutex_);
  if (event.latest != nullptr) append(stream, {"wait", [] {}, event.latest, nullptr});
}

/// The first piece of some stream that may run one; false where none may.
bool Device::run_one() {
  std::vector<CUstream_st*> candidates;
  for (const auto& stream : streams_) {
    if (may_run(*stream)) candidates.push_back(stream.get());
  }
  if (candidates.empty()) return false;
  run_first(*candidates[random_() % candidates.size()]);
  return true;
}

void Device::run_first(CUstream_st& stream) {
  const Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  work.run();
  if (work.records != nullptr) {
    work.records->happened = true;
    work.records->when = std::chrono::steady_clock::now();
  }
}

void Device::drain() {
  while (run_one()) {
  }
}

CUstream_st* Device::stream_of(const Record* record) {
  for (const auto& stream : streams_) {
    for (const Work& work : stream->queue) {
      if (work.records.get() == record) return stream.get();
    }
  }
  fail("an event is waited for that nothing will record");
}

/// The stream whose next piece has to run before `stream` can go on: itself, or another.
CUstream_st* Device::needed_for(CUstream_st* stream) {
  while (!may_run(*stream)) stream = stream_of(stream->queue.front().waits_for.get());
  return stream;
}

/// Three ways to reach what the host waits for, chosen anew each time: only what it needs; all that
/// other streams have first; any order.
template <class Done>
void Device::run_until(const Done& done, const std::function<CUstream_st*()>& needed) {
  const auto way = random_() % 3;
  while (!done()) {
    CUstream_st* const wanted = needed();
    if (way == 2) {
      run_one();
      continue;
    }
    CUstream_st* chosen = needed_for(wanted);
    if (way == 1) {
      for (const auto& other : streams_) {
        if (other.get() != wanted && may_run(*other)) chosen = other.get();
      }
    }
    run_first(*chosen);
  }
}

void Device::synchronize(CUstream_st* stream) {
  const std::lock_guard lock(mutex_);
  CUstream_st& known = checked(stream);
  run_until([&] { return known.queue.empty(); }, [&] { return stream; });
}

void Device::synchronize(const CUevent_st& event) {
  const std::lock_guard lock(mutex_);
  if (event.latest == nullptr) return;
  const Record* record = event.latest.get();
  run_until([&] { return record->happened; }, [&] { return stream_of(record); });
}

void Device::synchronize() {
  const std::lock_guard lock(mutex_);
  drain();
}

bool Device::is_done(CUstream_st* stream) {
  const std::lock_guard lock(mutex_);
  if (random_() % 2 == 0) run_one();
  return checked(stream).queue.empty();
}

bool Device::is_done(const CUevent_st& event) {
  const std::lock_guard lock(mutex_);
  if (random_() % 2 == 0) run_one();
  return event.latest == nullptr || event.latest->happened;
}

// --- memory
// --------------------------------------------------------------------------------------

cudaError_t Device::allocate(void** pointer, size_t bytes, CUstream_st* stream) {
  if (bytes > free_bytes()) {
    synchronize();  // what is released in the streams' order may be enough
    if (bytes > free_bytes()) return cudaErrorMemoryAllocation;
  }
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return cudaErrorMemoryAllocation;
  {
    const std::lock_guard lock(memory_mutex_);
    blocks_.emplace(reinterpret_cast<std::uintptr_t>(memory), Block{bytes, Residence::device});
    used_bytes_ += bytes;
  }
  *pointer = memory;
  return enqueue(stream, "allocation", [=] { std::memset(memory, kNaNByte, bytes); });
}

void Device::release(void* pointer, CUstream_st* stream) {
  enqueue(stream, "release", [=, this] { free_block(pointer, Residence::device); });
}

void* Device::allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return nullptr;
  std::memset(memory, kNaNByte, bytes);
  const std::lock_guard lock(memory_mutex_);
  blocks_.emplace(reinterpret_cast<std::uintptr_t>(memory), Block{bytes, Residence::pinned});
  return memory;
}

/// Like CUDA's, waits for the device first.
void Device::release_pinned(void* pointer) {
  synchronize();
  free_block(pointer, Residence::pinned);
}

void Device::free_block(void* pointer, Residence residence) {
  {
    const std::lock_guard lock(memory_mutex_);
    const auto found = blocks_.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == blocks_.end() || found->second.residence != residence)
      fail("memory is released that was not allocated, or of another kind, or twice");
    std::memset(pointer, kNaNByte, found->second.bytes);
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
  if (block == blocks_.end() || block->second.residence != Residence::device)
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

size_t Device::total_bytes() {
  const char* text = std::getenv("RINGBOLT_EMULATED_CUDA_GIB");
  return (text == nullptr ? size_t{8} : std::strtoull(text, nullptr, 10)) << 30;
}

size_t Device::free_bytes() {
  const std::lock_guard lock(memory_mutex_);
  return total_bytes() - std::min(total_bytes(), used_bytes_);
}

}  // namespace ringbolt::emulated_cuda
