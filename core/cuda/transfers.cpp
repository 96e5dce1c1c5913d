#include "core/cuda/transfers.h"

#include <utility>

namespace ringbolt::cuda {
namespace {

cudaEvent_t event_of(const Mark& mark) { return static_cast<cudaEvent_t>(mark.event()); }

cudaMemcpyKind kind_of(Transfers::Way way) {
  switch (way) {
    case Transfers::Way::within_device:
      return cudaMemcpyDeviceToDevice;
    case Transfers::Way::to_host:
      return cudaMemcpyDeviceToHost;
    case Transfers::Way::to_device:
      break;
  }
  return cudaMemcpyHostToDevice;
}

bool is_over(cudaEvent_t event) {
  const cudaError_t status = cudaEventQuery(event);
  if (status == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());  // it is kept as if it were an error
    return false;
  }
  check(status, "cudaEventQuery");
  return true;
}

}  // namespace

StreamTransfers::StreamTransfers(int device, cudaStream_t compute)
    : device_(device), compute_(compute), stream_(make_urgent_stream()) {}

StreamTransfers::~StreamTransfers() {
  check_quietly(cudaStreamSynchronize(stream_.get()), "the last transfers of a GPU");
}

void StreamTransfers::enter_thread() { RINGBOLT_CUDA(cudaSetDevice(device_)); }

Mark StreamTransfers::behind(cudaStream_t stream) {
  Event event = make_event();
  RINGBOLT_CUDA(cudaEventRecord(event.get(), stream));
  return Mark(std::shared_ptr<void>(std::move(event)));
}

void StreamTransfers::after(cudaStream_t stream, const Mark& mark) {
  if (!mark.empty()) RINGBOLT_CUDA(cudaStreamWaitEvent(stream, event_of(mark), 0));
}

void StreamTransfers::copy(const std::byte* from, std::byte* to, size_t bytes, Way way) {
  if (bytes > 0) RINGBOLT_CUDA(cudaMemcpyAsync(to, from, bytes, kind_of(way), stream_.get()));
}

Event StreamTransfers::take_event() {
  if (spare_.empty()) return make_timed_event();
  Event event = std::move(spare_.back());
  spare_.pop_back();
  return event;
}

bool StreamTransfers::is_captured() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  RINGBOLT_CUDA(cudaStreamIsCapturing(compute_, &status));
  return status != cudaStreamCaptureStatusNone;
}

void StreamTransfers::begin_pause() {
  if (pausing_ != nullptr || is_captured()) return;
  pausing_ = take_event();
  RINGBOLT_CUDA(cudaEventRecord(pausing_.get(), compute_));
}

void StreamTransfers::end_pause() {
  if (pausing_ == nullptr) return;
  pauses_.push_back({std::move(pausing_), take_event()});
  RINGBOLT_CUDA(cudaEventRecord(pauses_.back().end.get(), compute_));
}

double StreamTransfers::take_paused_seconds() {
  double milliseconds = 0;
  if (pauses_.empty() || is_captured()) return milliseconds;  // there no event may be asked
  while (!pauses_.empty() && is_over(pauses_.front().end.get())) {
    float one = 0;
    RINGBOLT_CUDA(
        cudaEventElapsedTime(&one, pauses_.front().begin.get(), pauses_.front().end.get()));
    milliseconds += static_cast<double>(one);
    spare_.push_back(std::move(pauses_.front().begin));
    spare_.push_back(std::move(pauses_.front().end));
    pauses_.pop_front();
  }
  return milliseconds / 1e3;
}

bool StreamTransfers::is_done(const Mark& mark) { return mark.empty() || is_over(event_of(mark)); }

void StreamTransfers::wait(const Mark& mark) {
  if (!mark.empty()) RINGBOLT_CUDA(cudaEventSynchronize(event_of(mark)));
}

std::shared_ptr<std::byte> StreamTransfers::host_memory(size_t bytes) {
  const auto buffer = std::make_shared<HostBuffer>(bytes);
  return {buffer, buffer->data()};
}

}  // namespace ringbolt::cuda
