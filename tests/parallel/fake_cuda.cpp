#include "tests/parallel/fake_cuda.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

#include "core/cuda/transfers.h"
#include "tests/support/lazy_device.h"

using ringbolt::Mark;
using ringbolt::testing_support::fake_cuda_device;
using ringbolt::testing_support::LazyStream;

namespace {

/// The device that every stream is of. No thread has it from the start.
constexpr int kDevice = 1;
thread_local int current_device = 0;

struct FakeEvent {
  Mark mark;
};

LazyStream& stream_of(cudaStream_t stream) { return *reinterpret_cast<LazyStream*>(stream); }
FakeEvent& event_of(cudaEvent_t event) { return *reinterpret_cast<FakeEvent*>(event); }

}  // namespace

extern "C" {

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t) { return "an error of the stand-in"; }
const char* cudaGetErrorString(cudaError_t) { return "an error of the stand-in"; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevice + 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::malloc(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  auto* made = new LazyStream;
  fake_cuda_device()->add(made);
  *stream = reinterpret_cast<cudaStream_t>(made);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  fake_cuda_device()->run_until(fake_cuda_device()->record(stream_of(stream)));
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  cudaStreamSynchronize(stream);
  fake_cuda_device()->remove(&stream_of(stream));
  delete &stream_of(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new FakeEvent);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete &event_of(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event_of(event).mark = fake_cuda_device()->record(stream_of(stream));
  return cudaSuccess;
}
/// CUDA would answer all the same, and open a device that the process has no use for.
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (current_device != kDevice) return cudaErrorInvalidDevice;
  return fake_cuda_device()->is_done(event_of(event).mark) ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  fake_cuda_device()->run_until(event_of(event).mark);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0.25F;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  fake_cuda_device()->wait_in(stream_of(stream), event_of(event).mark);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  fake_cuda_device()->give(stream_of(stream),
                           {.run = [=] { std::memcpy(to, from, bytes); }, .until = nullptr});
  return cudaSuccess;
}

}  // extern "C"

namespace ringbolt::testing_support {

const std::shared_ptr<LazyDevice>& fake_cuda_device() {
  static const std::shared_ptr<LazyDevice> device = make_lazy_device(11);
  return device;
}

Mark cuda_mark_of(const std::shared_ptr<LazyEvent>& event) {
  return Mark(std::make_shared<FakeEvent>(FakeEvent{mark_of(event)}));
}

std::unique_ptr<Backend> make_fake_cuda_backend() {
  cudaSetDevice(kDevice);
  return make_lazy_backend(fake_cuda_device(), [](LazyStream& compute) {
    return std::make_unique<cuda::StreamTransfers>(kDevice,
                                                   reinterpret_cast<cudaStream_t>(&compute));
  });
}

}  // namespace ringbolt::testing_support
