#include "core/cuda/runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "core/base/error.h"
#include "core/cuda/status.h"

namespace ringbolt::cuda {
namespace {

std::string described(cudaError_t status) {
  return concat(cudaGetErrorName(status), ", code ", static_cast<int>(status), ": ",
                cudaGetErrorString(status));
}

[[noreturn]] void throw_no_gpu(cudaError_t status) {
  throw DeviceError(message("no NVIDIA GPU can be used here", described(status),
                            "Run on a machine with a GPU and its driver, or use --device cpu."));
}

}  // namespace

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // an error of this call only is not to be seen again
  switch (severity_of(static_cast<int>(status))) {
    case Severity::no_gpu:
      throw_no_gpu(status);
    case Severity::no_code:
      throw DeviceError(
          message("this build has no code for this GPU", described(status),
                  "Build it with -D CMAKE_CUDA_ARCHITECTURES=native where the GPU is."));
    case Severity::out_of_memory:
      throw DeviceError(message("the GPU has no more memory",
                                concat(described(status), ", in ", call),
                                "Try a shorter context, a smaller batch or --recompute block."));
    case Severity::sticky:
      std::fprintf(stderr,
                   "ringbolt: a GPU kernel failed (%s, seen in %s). The process ends: nothing it "
                   "holds on the "
                   "device can be trusted.\n",
                   described(status).c_str(), call);
      std::fflush(nullptr);
      std::_Exit(EXIT_FAILURE);
    case Severity::call:
      break;
  }
  throw DeviceError(message(
      concat("a CUDA call failed: ", call), described(status),
      "This is a defect of Ringbolt or of the driver; please report it with the command line."));
}

void check_quietly(cudaError_t status, const char* call) noexcept {
  if (status == cudaSuccess || status == cudaErrorCudartUnloading) return;
  std::fprintf(stderr, "ringbolt: %s: %s\n", call, cudaGetErrorString(status));
}

Stream make_stream() {
  cudaStream_t stream = nullptr;
  RINGBOLT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

Stream make_urgent_stream() {
  int least = 0;
  int greatest = 0;
  RINGBOLT_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  RINGBOLT_CUDA(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest));
  return Stream(stream);
}

Event make_event() {
  cudaEvent_t event = nullptr;
  RINGBOLT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return Event(event);
}

Event make_timed_event() {
  cudaEvent_t event = nullptr;
  RINGBOLT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDefault));
  return Event(event);
}

int count_devices() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count == 0) throw_no_gpu(cudaErrorNoDevice);
  RINGBOLT_CUDA(status);
  return count;
}

DeviceFacts open_device(int device) {
  const int count = count_devices();
  if (device < 0 || device >= count) {
    throw DeviceError(message(concat("there is no GPU number ", device),
                              concat("this process sees ", count),
                              "Numbers start at 0; CUDA_VISIBLE_DEVICES chooses which are seen."));
  }
  RINGBOLT_CUDA(cudaSetDevice(device));
  cudaDeviceProp properties{};
  RINGBOLT_CUDA(cudaGetDeviceProperties(&properties, device));
  DeviceFacts facts{};
  facts.number = device;
  facts.arch = properties.major * 10 + properties.minor;
  const std::string why = why_unsupported(facts.arch);
  if (!why.empty()) throw DeviceError(why);
  facts.multiprocessors = properties.multiProcessorCount;
  std::memcpy(facts.name, properties.name, sizeof(facts.name));
  facts.memory_bytes = properties.totalGlobalMem;
  return facts;
}

HostBuffer::HostBuffer(size_t bytes) : bytes_(bytes) {
  void* memory = nullptr;
  if (cudaMallocHost(&memory, bytes) == cudaSuccess) {
    data_ = static_cast<std::byte*>(memory);
    pinned_ = true;
    return;
  }
  static_cast<void>(cudaGetLastError());
  data_ = static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64}));
}

HostBuffer::~HostBuffer() {
  if (pinned_) {
    check_quietly(cudaFreeHost(data_), "freeing pinned memory");
  } else {
    ::operator delete (data_, std::align_val_t{64});
  }
}

}  // namespace ringbolt::cuda
