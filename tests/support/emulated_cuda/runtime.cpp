// The functions of the CUDA runtime that Ringbolt calls, on the emulated device. Signatures and
// errors are those of CUDA's reference; others than these are missing, and fail to link.
#include "tests/support/emulated_cuda/runtime.h"

#include <cstring>
#include <utility>

#include "tests/support/emulated_cuda/device.h"

using ringbolt::emulated_cuda::Device;
using ringbolt::emulated_cuda::refused;
using ringbolt::emulated_cuda::Residence;

namespace {

thread_local cudaError_t last_error = cudaSuccess;

constexpr int kMultiprocessors = 132;  // as many as an H100, so that plans are those of one
constexpr char kName[] = "emulated, no GPU";

/// Whether what is known now contradicts the kind.
bool contradicts(const void* to, const void* from, cudaMemcpyKind kind) {
  const bool to_device = Device::get().residence(to) == Residence::device;
  const bool from_device = Device::get().residence(from) == Residence::device;
  switch (kind) {
    case cudaMemcpyHostToHost:
      return to_device || from_device;
    case cudaMemcpyHostToDevice:
      return !to_device || from_device;
    case cudaMemcpyDeviceToHost:
      return to_device || !from_device;
    case cudaMemcpyDeviceToDevice:
      return !to_device || !from_device;
    case cudaMemcpyDefault:
      return false;
  }
  return true;
}

void require(const void* pointer, size_t bytes, bool on_device, const char* what) {
  if (on_device) {
    Device::get().require_device(pointer, bytes, what);
  } else {
    Device::get().require_host(pointer, bytes, what);
  }
}

struct Rows {
  size_t pitch, width, height;
  size_t bytes() const { return height == 0 ? 0 : (height - 1) * pitch + width; }
};

cudaError_t copy_rows(void* to, Rows to_rows, const void* from, Rows from_rows, cudaMemcpyKind kind,
                      cudaStream_t stream, const char* what) {
  if (contradicts(to, from, kind)) return refused(cudaErrorInvalidValue);
  if (to_rows.width > to_rows.pitch || from_rows.width > from_rows.pitch)
    return refused(cudaErrorInvalidPitchValue);
  const bool to_device = Device::get().residence(to) == Residence::device;
  const bool from_device = Device::get().residence(from) == Residence::device;
  if (Device::get().capture_status(stream) == cudaStreamCaptureStatusActive &&
      (Device::get().residence(to) == Residence::pageable ||
       Device::get().residence(from) == Residence::pageable))
    return refused(Device::get().synchronize(stream));  // pageable memory needs the host
  return refused(Device::get().enqueue(stream, what, [=] {
    require(to, to_rows.bytes(), to_device, what);
    require(from, from_rows.bytes(), from_device, what);
    for (size_t row = 0; row < to_rows.height; ++row) {
      std::memcpy(static_cast<std::byte*>(to) + row * to_rows.pitch,
                  static_cast<const std::byte*>(from) + row * from_rows.pitch, to_rows.width);
    }
  }));
}

cudaError_t set_rows(void* to, Rows rows, int value, cudaStream_t stream, const char* what) {
  if (Device::get().residence(to) != Residence::device) return refused(cudaErrorInvalidValue);
  if (rows.width > rows.pitch) return refused(cudaErrorInvalidPitchValue);
  return refused(Device::get().enqueue(stream, what, [=] {
    Device::get().require_device(to, rows.bytes(), what);
    for (size_t row = 0; row < rows.height; ++row)
      std::memset(static_cast<std::byte*>(to) + row * rows.pitch, value, rows.width);
  }));
}

}  // namespace

cudaError_t ringbolt::emulated_cuda::refused(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

extern "C" {

// --- errors --------------------------------------------------------------------------------------

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidPitchValue:
      return "cudaErrorInvalidPitchValue";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureMerge:
      return "cudaErrorStreamCaptureMerge";
    case cudaErrorStreamCaptureUnmatched:
      return "cudaErrorStreamCaptureUnmatched";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorCapturedEvent:
      return "cudaErrorCapturedEvent";
    case cudaErrorStreamCaptureWrongThread:
      return "cudaErrorStreamCaptureWrongThread";
    default:
      return "an error that is not emulated";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

// --- the device ----------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : refused(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return refused(cudaErrorInvalidDevice);
  *properties = {};
  std::memcpy(properties->name, kName, sizeof(kName));
  properties->major = 9;
  properties->multiProcessorCount = kMultiprocessors;
  properties->totalGlobalMem = Device::get().total_bytes();
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int bytes, int device) {
  if (device != 0) return refused(cudaErrorInvalidDevice);
  std::strncpy(text, kName, static_cast<size_t>(bytes));
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return refused(Device::get().synchronize()); }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = Device::get().free_bytes();
  *total = Device::get().total_bytes();
  return cudaSuccess;
}

// --- memory --------------------------------------------------------------------------------------

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  if (device != 0) return refused(cudaErrorInvalidDevice);
  *pool = nullptr;  // the one that there is
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) {
  if (const cudaError_t error = Device::get().may_wait()) return refused(error);
  Device::get().trim_pool();
  return cudaSuccess;
}
cudaError_t cudaDeviceGraphMemTrim(int device) {
  if (device != 0) return refused(cudaErrorInvalidDevice);
  Device::get().trim_graph_memory();
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) {  // as CUDA's
    *pointer = nullptr;
    return cudaSuccess;
  }
  return refused(Device::get().allocate(pointer, bytes, stream));
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  return pointer == nullptr ? cudaSuccess : refused(Device::get().release(pointer, stream));
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  if (const cudaError_t error = Device::get().may_wait()) return refused(error);
  *pointer = Device::get().allocate_pinned(bytes);
  return *pointer == nullptr ? refused(cudaErrorMemoryAllocation) : cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return cudaMallocHost(pointer, bytes);
}
cudaError_t cudaFreeHost(void* pointer) {
  if (const cudaError_t error = Device::get().may_wait()) return refused(error);
  if (pointer != nullptr) Device::get().release_pinned(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Rows row{bytes, bytes, 1};
  return copy_rows(to, row, from, row, kind, stream, "cudaMemcpyAsync");
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return copy_rows(to, {to_pitch, width, height}, from, {from_pitch, width, height}, kind, stream,
                   "cudaMemcpy2DAsync");
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return set_rows(to, {bytes, bytes, 1}, value, stream, "cudaMemsetAsync");
}
cudaError_t cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
  return set_rows(to, {pitch, width, height}, value, stream, "cudaMemset2DAsync");
}

// --- streams -------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking)
    ringbolt::emulated_cuda::fail("streams that the default stream blocks are not emulated");
  *stream = Device::get().create_stream();
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Device::get().destroy_stream(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return refused(Device::get().synchronize(stream));
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return refused(Device::get().query(stream)); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return refused(Device::get().wait(stream, *event));
}

// --- graphs --------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return refused(Device::get().begin_capture(stream, mode));
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  std::shared_ptr<ringbolt::emulated_cuda::Graph> captured;
  const cudaError_t status = Device::get().end_capture(stream, &captured);
  *graph = captured == nullptr ? nullptr : new CUgraph_st{std::move(captured)};
  return refused(status);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = Device::get().capture_status(stream);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags) {
  if (flags != 0) ringbolt::emulated_cuda::fail("flags of a graph are not emulated");
  // "At any time at most one executable graph may exist for a graph with memory nodes."
  if (graph->graph->instantiated && !graph->graph->memory.empty())
    return refused(cudaErrorInvalidValue);
  graph->graph->instantiated = true;
  *executable = new CUgraphExec_st{graph->graph};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return refused(Device::get().launch(executable->graph, stream));
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  executable->graph->instantiated = false;
  delete executable;
  return cudaSuccess;
}

// --- events --------------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return refused(Device::get().record(stream, *event));
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return refused(Device::get().synchronize(*event));
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return refused(Device::get().query(*event)); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (begin->capture != nullptr || end->capture != nullptr) return refused(cudaErrorCapturedEvent);
  if (!begin->timed || !end->timed || begin->latest == nullptr || end->latest == nullptr)
    return refused(cudaErrorInvalidResourceHandle);
  if (!begin->latest->happened || !end->latest->happened) return refused(cudaErrorNotReady);
  *milliseconds =
      std::chrono::duration<float, std::milli>(end->latest->when - begin->latest->when).count();
  return cudaSuccess;
}

cudaError_t cudaFuncGetName(const char** name, const void*) {
  *name = "a kernel of the emulated device";
  return cudaSuccess;
}
}
