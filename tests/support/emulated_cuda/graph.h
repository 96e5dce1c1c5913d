// CUDA graphs of the emulated device: what a capture collects, and a launch of it on its way.
//
// A node may run when those before it have: in its stream, and by the events that the capture saw.
// Among what may run a launch chooses by the device's seed. Memory that a graph allocates has its
// addresses from the capture on, for as long as the graph lives; it holds something from the
// allocation's turn in a launch to the release's.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace ringbolt::emulated_cuda {

struct Node {
  const char* what;
  std::function<void(uint64_t seed)> run;
  std::vector<size_t> after;
  std::function<bool()> ready = {};  ///< none: as soon as those before it have run
};

struct GraphMemory {
  void* memory;
  size_t bytes;
  bool released_in_it = false;
};

/// What a capture has collected.
struct Graph {
  std::vector<Node> nodes;
  std::vector<GraphMemory> memory;
  size_t live_bytes = 0;    ///< at this point of the capture
  size_t peak_bytes = 0;    ///< what a launch needs
  std::set<void*> unfreed;  ///< left by the last launch, and not released since
  bool instantiated = false;

  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();  ///< gives the addresses back

  GraphMemory* find(const void* pointer);
  /// Whether every one of `nodes` has to run before, or is one of, `ends`.
  bool are_before(const std::vector<size_t>& nodes_, const std::vector<size_t>& ends) const;
};

/// A capture under way: of the stream it was begun in, and of those that joined it by events.
struct Capture {
  CUstream_st* origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  std::shared_ptr<Graph> graph;
  bool valid = true;
  bool ended = false;

  /// Whether a call that may wait for the device is refused to this thread because of it.
  bool forbids_waiting() const {
    return mode == cudaStreamCaptureModeGlobal ||
           (mode == cudaStreamCaptureModeThreadLocal && thread == std::this_thread::get_id());
  }
};

/// A launch in its stream.
class Launch {
 public:
  explicit Launch(std::shared_ptr<Graph> graph);
  /// Runs one node that may run; true when none is left. Requires: may_run().
  bool run_one(std::mt19937_64& random);
  bool may_run() const;

 private:
  std::shared_ptr<Graph> graph_;
  std::vector<size_t> waits_;  ///< by node: how many before it have not run
  std::vector<std::vector<size_t>> next_;
  std::vector<size_t> ready_;
  size_t left_;
};

}  // namespace ringbolt::emulated_cuda

struct CUgraph_st {
  std::shared_ptr<ringbolt::emulated_cuda::Graph> graph;
};
struct CUgraphExec_st {
  std::shared_ptr<ringbolt::emulated_cuda::Graph> graph;
};
