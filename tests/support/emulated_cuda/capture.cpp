// Streams in capture, and launches of what they collected.
#include <algorithm>

#include "tests/support/emulated_cuda/device.h"

namespace ringbolt::emulated_cuda {

cudaError_t Device::begin_capture(CUstream_st* stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(mutex_);
  if (checked(stream).capture != nullptr) return cudaErrorIllegalState;
  stream->capture = std::make_shared<Capture>(
      Capture{stream, mode, std::this_thread::get_id(), std::make_shared<Graph>()});
  stream->last.clear();
  captures_.push_back(stream->capture);
  return cudaSuccess;
}

cudaError_t Device::end_capture(CUstream_st* stream, std::shared_ptr<Graph>* graph) {
  const std::lock_guard lock(mutex_);
  graph->reset();
  const std::shared_ptr<Capture> capture = checked(stream).capture;
  if (capture == nullptr) return cudaErrorIllegalState;
  if (capture->origin != stream) return spoil(*capture, cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed &&
      capture->thread != std::this_thread::get_id())
    return spoil(*capture, cudaErrorStreamCaptureWrongThread);
  bool joined = true;
  const std::vector<size_t> ends = std::move(stream->last);
  for (const auto& other : streams_) {
    if (other->capture != capture) continue;
    if (other.get() != stream) joined = joined && capture->graph->are_before(other->last, ends);
    other->capture = nullptr;
    other->last.clear();
  }
  capture->ended = true;
  std::erase(captures_, capture);
  if (!capture->valid) return cudaErrorStreamCaptureInvalidated;
  if (!joined) return cudaErrorStreamCaptureUnjoined;
  *graph = capture->graph;
  return cudaSuccess;
}

cudaStreamCaptureStatus Device::capture_status(CUstream_st* stream) {
  const std::lock_guard lock(mutex_);
  const auto& capture = checked(stream).capture;
  if (capture == nullptr) return cudaStreamCaptureStatusNone;
  return capture->valid ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusInvalidated;
}

cudaError_t Device::may_wait() {
  const std::lock_guard lock(mutex_);
  return may_wait_locked();
}

cudaError_t Device::may_wait_locked() {
  cudaError_t error = cudaSuccess;
  for (const auto& capture : captures_) {
    if (capture->forbids_waiting()) error = spoil(*capture, cudaErrorStreamCaptureUnsupported);
  }
  return error;
}

cudaError_t Device::spoil(Capture& capture, cudaError_t error) {
  capture.valid = false;
  return error;
}

cudaError_t Device::add_node(CUstream_st& stream, Node node) {
  Capture& capture = *stream.capture;
  if (!capture.valid) return cudaErrorStreamCaptureInvalidated;
  node.after = std::move(stream.last);
  capture.graph->nodes.push_back(std::move(node));
  stream.last = {capture.graph->nodes.size() - 1};
  return cudaSuccess;
}

cudaError_t Device::launch(const std::shared_ptr<Graph>& graph, CUstream_st* stream) {
  const std::lock_guard lock(mutex_);
  if (checked(stream).capture != nullptr) fail("a graph within a graph is not emulated");
  if (!graph->unfreed.empty()) return cudaErrorInvalidValue;
  {
    const std::lock_guard memory_lock(memory_mutex_);
    const size_t wanted = std::max(graph_bytes_, graph->peak_bytes);
    if (pool_bytes_ + wanted > total_bytes()) return cudaErrorMemoryAllocation;
    graph_bytes_ = wanted;
  }
  for (const GraphMemory& memory : graph->memory) {
    if (!memory.released_in_it) graph->unfreed.insert(memory.memory);
  }
  ++counts_["graph launch"];
  if (graph->nodes.empty()) return cudaSuccess;
  ++launches_;
  append(stream, {"graph", [] {}, nullptr, nullptr, std::make_shared<Launch>(graph)});
  return cudaSuccess;
}

}  // namespace ringbolt::emulated_cuda
