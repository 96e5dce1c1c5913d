// The door of the CUDA runtime's errors, and its objects as values that release themselves.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <type_traits>

namespace ringbolt::cuda {

/// Does nothing for cudaSuccess. Throws: DeviceError with the text of the call and of the error. A
/// sticky error (core/cuda/status.h) ends the process instead, after one line: no result of it
/// could be trusted.
void check(cudaError_t status, const char* call);
/// For destructors: prints instead of throwing. An error of a runtime that already shuts down is
/// none.
void check_quietly(cudaError_t status, const char* call) noexcept;

#define RINGBOLT_CUDA(call) ::ringbolt::cuda::check((call), #call)

template <auto kDestroy>
struct Destroy {
  template <class T>
  void operator()(T* handle) const noexcept {
    check_quietly(kDestroy(handle), "destroying a CUDA object");
  }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, Destroy<cudaStreamDestroy>>;
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, Destroy<cudaEventDestroy>>;

Stream make_stream();
/// One whose work the device prefers to that of make_stream().
Stream make_urgent_stream();
/// Without timing: it orders, it does not measure.
Event make_event();
Event make_timed_event();

/// What kernels and policies ask of a device.
struct DeviceFacts {
  int number;
  int arch;  ///< 90 for compute capability 9.0
  int multiprocessors;
  char name[256];
  size_t memory_bytes;
};

/// That this process sees. Throws: DeviceError where there is none.
int count_devices();

/// Makes `device` the current one. Throws: DeviceError where there is no GPU, none with this
/// number, or one that is too old.
DeviceFacts open_device(int device);

/// Host memory that the device reads without a copy in between; ordinary memory where there is none
/// to have.
class HostBuffer {
 public:
  explicit HostBuffer(size_t bytes);
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  ~HostBuffer();

  std::byte* data() { return data_; }
  size_t bytes() const { return bytes_; }
  bool pinned() const { return pinned_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_;
  bool pinned_ = false;
};

}  // namespace ringbolt::cuda
