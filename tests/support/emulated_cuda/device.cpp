#include "tests/support/emulated_cuda/device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace ringbolt::emulated_cuda {
namespace {

constexpr size_t kMostQueued = 1024;  ///< pieces of work in all streams: beyond, the host waits

uint64_t initial_seed() {
  const char* text = std::getenv("RINGBOLT_EMULATED_CUDA_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

size_t initial_bytes() {
  const char* text = std::getenv("RINGBOLT_EMULATED_CUDA_GIB");
  return (text == nullptr ? size_t{8} : std::strtoull(text, nullptr, 10)) << 30;
}

bool may_run(const CUstream_st& stream) {
  if (stream.queue.empty()) return false;
  const Work& work = stream.queue.front();
  if (work.launch != nullptr) return work.launch->may_run();
  if (work.ready && !work.ready()) return false;
  return work.waits_for == nullptr || work.waits_for->happened;
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

Device::Device() : total_bytes_(initial_bytes()) { set_seed(initial_seed()); }

void Device::set_seed(uint64_t seed) {
  const std::lock_guard lock(mutex_);
  random_.seed(seed);
  at_once_ = seed == 0;
}

// --- streams, events -----------------------------------------------------------------------------

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
  if (synchronize(stream) != cudaSuccess) fail("a stream is destroyed in a capture");
  const std::lock_guard lock(mutex_);
  std::erase_if(streams_, [&](const auto& known) { return known.get() == stream; });
}

void Device::append(CUstream_st* stream, Work work) {
  checked(stream).queue.push_back(std::move(work));
  changed_.notify_all();
  size_t queued = 0;
  for (const auto& each : streams_) queued += each->queue.size();
  if (at_once_ || queued > kMostQueued) return drain();
  if (random_() % 16 != 0) return;
  for (auto pieces = random_() % 8; pieces > 0 && run_one(); --pieces) {
  }
}

cudaError_t Device::enqueue(CUstream_st* stream, const char* what, std::function<void()> run) {
  return enqueue_seeded(stream, what, [run = std::move(run)](uint64_t) { run(); });
}

cudaError_t Device::enqueue_seeded(CUstream_st* stream, const char* what,
                                   std::function<void(uint64_t)> run) {
  const std::lock_guard lock(mutex_);
  ++counts_[what];
  if (checked(stream).capture != nullptr) return add_node(*stream, {what, std::move(run), {}});
  const uint64_t seed = random_();
  append(stream, {what, [run = std::move(run), seed] { run(seed); }, nullptr, nullptr, nullptr});
  return cudaSuccess;
}

cudaError_t Device::enqueue_when(CUstream_st* stream, const char* what, std::function<bool()> ready,
                                 std::function<void()> run) {
  const std::lock_guard lock(mutex_);
  ++counts_[what];
  if (checked(stream).capture != nullptr)
    return add_node(*stream,
                    {what, [run = std::move(run)](uint64_t) { run(); }, {}, std::move(ready)});
  append(stream, {what, std::move(run), nullptr, nullptr, nullptr, std::move(ready)});
  return cudaSuccess;
}

cudaError_t Device::record(CUstream_st* stream, CUevent_st& event) {
  const std::lock_guard lock(mutex_);
  event.capture = checked(stream).capture;
  event.nodes.clear();
  if (event.capture != nullptr) {
    if (!event.capture->valid) return cudaErrorStreamCaptureInvalidated;
    event.latest = nullptr;
    event.nodes = stream->last;
    return cudaSuccess;
  }
  event.latest = std::make_shared<Record>();
  append(stream, {"event", [] {}, nullptr, event.latest, nullptr});
  return cudaSuccess;
}

cudaError_t Device::wait(CUstream_st* stream, const CUevent_st& event) {
  const std::lock_guard lock(mutex_);
  const std::shared_ptr<Capture> mine = checked(stream).capture;
  if (event.capture != nullptr) {
    if (event.capture->ended) return cudaErrorCapturedEvent;
    if (mine != nullptr && mine != event.capture) {
      spoil(*event.capture, cudaErrorStreamCaptureMerge);
      return spoil(*mine, cudaErrorStreamCaptureMerge);
    }
    if (!event.capture->valid) return cudaErrorStreamCaptureInvalidated;
    stream->capture = event.capture;
    stream->last.insert(stream->last.end(), event.nodes.begin(), event.nodes.end());
    std::sort(stream->last.begin(), stream->last.end());
    stream->last.erase(std::unique(stream->last.begin(), stream->last.end()), stream->last.end());
    return cudaSuccess;
  }
  if (event.latest == nullptr) return cudaSuccess;
  if (mine != nullptr) return spoil(*mine, cudaErrorStreamCaptureIsolation);
  append(stream, {"wait", [] {}, event.latest, nullptr, nullptr});
  return cudaSuccess;
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
  if (Launch* launch = stream.queue.front().launch.get()) {
    const bool over = launch->run_one(random_);
    changed_.notify_all();
    if (!over) return;
    --launches_;
  }
  const Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  work.run();
  if (work.records != nullptr) {
    work.records->happened = true;
    work.records->when = std::chrono::steady_clock::now();
  }
  changed_.notify_all();
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

/// The stream whose next piece has to run before `stream` can go on: itself, or another. Null
/// where that is known to other ranks only.
CUstream_st* Device::needed_for(CUstream_st* stream) {
  while (!may_run(*stream)) {
    const auto& waits_for = stream->queue.front().waits_for;
    if (waits_for == nullptr || waits_for->happened) return nullptr;
    stream = stream_of(waits_for.get());
  }
  return stream;
}

/// Three ways to reach what the host waits for, chosen anew each time: only what it needs; all that
/// other streams have first; any order.
template <class Done>
void Device::run_until(std::unique_lock<std::mutex>& lock, const Done& done,
                       const std::function<CUstream_st*()>& needed) {
  constexpr std::chrono::seconds kLongest(60);
  const auto way = random_() % 3;
  while (!done()) {
    CUstream_st* const wanted = needed();
    CUstream_st* chosen = way == 2 ? nullptr : needed_for(wanted);
    if (chosen == nullptr) {
      if (run_one()) continue;
      if (changed_.wait_for(lock, kLongest) == std::cv_status::timeout)
        fail("the streams wait for what nobody gives them");
      continue;
    }
    if (way == 1) {
      for (const auto& other : streams_) {
        if (other.get() != wanted && may_run(*other)) chosen = other.get();
      }
    }
    run_first(*chosen);
  }
}

cudaError_t Device::synchronize(CUstream_st* stream) {
  std::unique_lock lock(mutex_);
  ++counts_["wait"];
  CUstream_st& known = checked(stream);
  if (known.capture != nullptr) return spoil(*known.capture, cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t error = may_wait_locked()) return error;
  run_until(
      lock, [&] { return known.queue.empty(); }, [&] { return stream; });
  return cudaSuccess;
}

cudaError_t Device::synchronize(const CUevent_st& event) {
  std::unique_lock lock(mutex_);
  ++counts_["wait"];
  if (event.capture != nullptr) return spoil(*event.capture, cudaErrorCapturedEvent);
  if (const cudaError_t error = may_wait_locked()) return error;
  if (event.latest == nullptr) return cudaSuccess;
  const Record* record = event.latest.get();
  run_until(
      lock, [&] { return record->happened; }, [&] { return stream_of(record); });
  return cudaSuccess;
}

cudaError_t Device::synchronize() {
  const std::lock_guard lock(mutex_);
  ++counts_["wait"];
  for (const auto& capture : captures_) spoil(*capture, cudaErrorStreamCaptureUnsupported);
  if (!captures_.empty()) return cudaErrorStreamCaptureUnsupported;
  drain();
  return cudaSuccess;
}

cudaError_t Device::query(CUstream_st* stream) {
  const std::lock_guard lock(mutex_);
  CUstream_st& known = checked(stream);
  if (known.capture != nullptr) return spoil(*known.capture, cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t error = may_wait_locked()) return error;
  if (random_() % 2 == 0) run_one();
  return known.queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t Device::query(const CUevent_st& event) {
  const std::lock_guard lock(mutex_);
  if (event.capture != nullptr) return spoil(*event.capture, cudaErrorCapturedEvent);
  if (const cudaError_t error = may_wait_locked()) return error;
  if (random_() % 2 == 0) run_one();
  return event.latest == nullptr || event.latest->happened ? cudaSuccess : cudaErrorNotReady;
}

std::map<std::string, int64_t> Device::take_counts() {
  const std::lock_guard lock(mutex_);
  return std::exchange(counts_, {});
}

}  // namespace ringbolt::emulated_cuda
