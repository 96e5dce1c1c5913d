// Recordings of a GPU's compute stream as CUDA graphs.
//
// What a recording allocates becomes part of its graph: the addresses are the graph's for as long
// as it lives, the memory behind them comes from a pool of graphs, apart from that of
// core/cuda/memory.h, and stays there from replay to replay. Graphs that run in one stream share
// it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/backend/recording.h"
#include "core/cuda/memory.h"
#include "core/cuda/runtime.h"

namespace ringbolt::cuda {

class GraphRecorder final : public Recorder {
 public:
  /// Of `stream`, whose memory `memory` is. Both must outlive it and its recordings.
  GraphRecorder(cudaStream_t stream, Memory& memory) : stream_(stream), memory_(memory) {}

  std::unique_ptr<Recording> record(const std::function<void()>& work) override;
  bool is_recording() const override { return recording_; }
  void at_replay(std::function<void(const Replay&)> action) override;
  /// Throws: UsageError, naming the operation, where a recording is under way.
  void require_none(const char* operation) const;

 private:
  cudaStream_t stream_;
  Memory& memory_;
  bool recording_ = false;
  std::vector<std::function<void(const Replay&)>> actions_;
};

}  // namespace ringbolt::cuda
