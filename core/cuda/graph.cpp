#include "core/cuda/graph.h"

#include <exception>
#include <utility>

#include "core/base/error.h"
#include "core/cuda/transfers.h"

namespace ringbolt::cuda {
namespace {

using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, Destroy<cudaGraphDestroy>>;
using Executable =
    std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy<cudaGraphExecDestroy>>;

using Actions = std::vector<std::function<void(const Replay&)>>;

class GraphRecording final : public Recording {
 public:
  GraphRecording(Executable executable, cudaStream_t stream, Memory& memory, int64_t peak_bytes,
                 Actions actions)
      : executable_(std::move(executable)),
        stream_(stream),
        memory_(memory),
        peak_bytes_(peak_bytes),
        actions_(std::move(actions)) {}
  GraphRecording(const GraphRecording&) = delete;
  GraphRecording& operator=(const GraphRecording&) = delete;
  ~GraphRecording() override {
    check_quietly(cudaStreamSynchronize(stream_), "the last replay of a recording");
    executable_.reset();
    memory_.trim_graphs();
  }

  void replay() override {
    if (actions_.empty()) return launch();
    Replay replay{StreamTransfers::behind(stream_), {}};
    launch();
    replay.done = StreamTransfers::behind(stream_);
    for (const auto& action : actions_) action(replay);
  }

 private:
  void launch() {
    cudaError_t status = cudaGraphLaunch(executable_.get(), stream_);
    if (status == cudaErrorMemoryAllocation) {
      // The pool of eager work may keep what this one wants.
      static_cast<void>(cudaGetLastError());
      memory_.give_back();
      status = cudaGraphLaunch(executable_.get(), stream_);
    }
    check(status, "cudaGraphLaunch");
    memory_.count_replay(peak_bytes_);
  }

  Executable executable_;
  cudaStream_t stream_;
  Memory& memory_;
  int64_t peak_bytes_;
  Actions actions_;
};

void require(bool condition, const std::string& problem, const char* why) {
  if (!condition) throw UsageError(message(problem, why, "This is a defect of Ringbolt."));
}

}  // namespace

void GraphRecorder::require_none(const char* operation) const {
  require(!recording_, concat(operation, " cannot be recorded"),
          "a recording is replayed without the host, and this waits for the device or copies from "
          "or to the host");
}

void GraphRecorder::at_replay(std::function<void(const Replay&)> action) {
  RINGBOLT_CHECK(recording_);
  actions_.push_back(std::move(action));
}

std::unique_ptr<Recording> GraphRecorder::record(const std::function<void()>& work) {
  require_none("a recording");
  memory_.give_back();
  // Other threads (a watchdog's) may ask after events meanwhile; what this one must not do is
  // found.
  RINGBOLT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  recording_ = true;
  memory_.begin_recording();
  std::exception_ptr error;
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  recording_ = false;
  Actions actions = std::exchange(actions_, {});
  cudaGraph_t raw = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &raw);
  const Graph graph(raw);
  if (ended != cudaSuccess) static_cast<void>(cudaGetLastError());
  const RecordedMemory memory = memory_.end_recording();
  if (error) std::rethrow_exception(error);
  require(ended != cudaErrorStreamCaptureUnjoined, "a recording has no end",
          "work of another stream was begun in it, and the compute stream does not wait for it");
  check(ended, "cudaStreamEndCapture");
  require(memory.released_older == 0, "memory from before a recording was released in it",
          "a replay would use it after that");
  require(memory.left == 0, "memory that a recording allocated outlives it",
          "there would be one of it for all replays");
  cudaGraphExec_t executable = nullptr;
  RINGBOLT_CUDA(cudaGraphInstantiate(&executable, graph.get(), 0));
  return std::make_unique<GraphRecording>(Executable(executable), stream_, memory_,
                                          memory.peak_bytes, std::move(actions));
}

}  // namespace ringbolt::cuda
