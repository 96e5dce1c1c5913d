// The device behind the emulated CUDA runtime: memory of the host, streams as queues.
//
// Work waits in its stream until the host waits for something; then the device picks, in an order
// that a seed gives, among the streams whose next piece may run. Nothing but events and waiting
// orders two streams, so a missing dependency gives a wrong result for some seeds. What a program
// may not do is refused or ends the process with one line: copies between memories that are not
// what they are said to be, or that end outside a block.
//
// A stream in capture runs nothing: its work becomes nodes of a graph (graph.h), and what waits for
// the device is refused with the errors of CUDA's programming guide ("CUDA Graphs", prohibited and
// unhandled operations).
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "tests/support/emulated_cuda/graph.h"

namespace ringbolt::emulated_cuda {

/// One recording of an event.
struct Record {
  bool happened = false;
  std::chrono::steady_clock::time_point when;
};

struct Work {
  const char* what;
  std::function<void()> run;
  std::shared_ptr<const Record> waits_for;  ///< null: for nothing
  std::shared_ptr<Record> records;          ///< null: nothing
  std::shared_ptr<Launch> launch;           ///< of a graph; null: this is `run`
  std::function<bool()> ready = {};         ///< none: always
};

}  // namespace ringbolt::emulated_cuda

struct CUstream_st {
  std::deque<ringbolt::emulated_cuda::Work> queue;
  std::shared_ptr<ringbolt::emulated_cuda::Capture> capture;  ///< null: none
  std::vector<size_t> last;  ///< nodes that its next one comes after
};
struct CUevent_st {
  std::shared_ptr<ringbolt::emulated_cuda::Record> latest;  ///< null: never recorded
  bool timed = true;
  std::shared_ptr<ringbolt::emulated_cuda::Capture> capture;  ///< where it was recorded last
  std::vector<size_t> nodes;                                  ///< that it was recorded behind
};

namespace ringbolt::emulated_cuda {

enum class Residence { pageable, pinned, device };

class Device {
 public:
  static Device& get();

  /// Chooses orders from here on: of streams, and of threads within a block. Seed 0 runs work when
  /// it is enqueued. The process begins with that of RINGBOLT_EMULATED_CUDA_SEED, or 1.
  void set_seed(uint64_t seed);
  /// What was given to streams and captures since the last call, by kind, and calls that wait for
  /// the device ("wait").
  std::map<std::string, int64_t> take_counts();

  // --- streams, events. Errors are CUDA's.
  CUstream_st* create_stream();
  void destroy_stream(CUstream_st* stream);
  cudaError_t enqueue(CUstream_st* stream, const char* what, std::function<void()> run);
  /// `run` is given a seed of its own, a new one each time it runs.
  cudaError_t enqueue_seeded(CUstream_st* stream, const char* what,
                             std::function<void(uint64_t)> run);
  /// The same, held until `ready()`, which other streams' work or other threads bring about: what a
  /// library of other ranks waits for. Both are called one at a time for the whole device.
  cudaError_t enqueue_when(CUstream_st* stream, const char* what, std::function<bool()> ready,
                           std::function<void()> run);
  /// What streams are held for may have come from outside of them.
  void look_again() { changed_.notify_all(); }
  cudaError_t wait(CUstream_st* stream, const CUevent_st& event);
  cudaError_t record(CUstream_st* stream, CUevent_st& event);
  cudaError_t synchronize(CUstream_st* stream);
  cudaError_t synchronize(const CUevent_st& event);
  cudaError_t synchronize();
  /// cudaErrorNotReady where it is not done. These let the device do some work, or none.
  cudaError_t query(CUstream_st* stream);
  cudaError_t query(const CUevent_st& event);

  // --- capture, graphs
  cudaError_t begin_capture(CUstream_st* stream, cudaStreamCaptureMode mode);
  /// Null where the capture was no good; it is over in any case.
  cudaError_t end_capture(CUstream_st* stream, std::shared_ptr<Graph>* graph);
  cudaStreamCaptureStatus capture_status(CUstream_st* stream);
  /// For calls that may wait for the device: refused, and the captures spoilt, where one forbids
  /// it.
  cudaError_t may_wait();
  cudaError_t launch(const std::shared_ptr<Graph>& graph, CUstream_st* stream);
  void trim_graph_memory();

  // --- memory
  /// Filled with NaNs in the stream's order.
  cudaError_t allocate(void** pointer, size_t bytes, CUstream_st* stream);
  cudaError_t release(void* pointer, CUstream_st* stream);
  /// Gives back what the pool keeps of released memory.
  void trim_pool();
  void* allocate_pinned(size_t bytes);
  void release_pinned(void* pointer);
  Residence residence(const void* pointer);
  /// What neither the pool nor graphs have.
  size_t free_bytes();
  /// 8 GiB, or as many as RINGBOLT_EMULATED_CUDA_GIB says.
  size_t total_bytes() const { return total_bytes_; }
  /// Requires: as much is not in use.
  void set_total_bytes(size_t bytes) { total_bytes_ = bytes; }
  /// Of a graph that ends.
  void forget_reserved(void* pointer);

  /// For work that runs: ends the process unless the bytes lie in one block of the device, or, on
  /// the host, in none of it.
  void require_device(const void* pointer, size_t bytes, const char* what);
  void require_host(const void* pointer, size_t bytes, const char* what);

 private:
  struct Block {
    size_t bytes;
    Residence residence;
    bool live = true;  ///< false: addresses of a graph, between launches
    Graph* graph = nullptr;
  };

  Device();
  CUstream_st& checked(CUstream_st* stream);
  void append(CUstream_st* stream, Work work);
  bool run_one();
  void run_first(CUstream_st& stream);
  template <class Done>
  void run_until(std::unique_lock<std::mutex>& lock, const Done& done,
                 const std::function<CUstream_st*()>& needed);
  CUstream_st* needed_for(CUstream_st* stream);
  CUstream_st* stream_of(const Record* record);
  void drain();
  cudaError_t add_node(CUstream_st& stream, Node node);
  cudaError_t spoil(Capture& capture, cudaError_t error);
  cudaError_t may_wait_locked();
  cudaError_t allocate_in_graph(void** pointer, size_t bytes, CUstream_st& stream);
  cudaError_t release_in_graph(void* pointer, CUstream_st& stream);
  void set_live(void* pointer, bool live);
  bool take_from_pool(size_t bytes);
  std::map<std::uintptr_t, Block>::const_iterator block_of(const void* pointer) const;
  void free_block(void* pointer, Residence residence);

  std::mutex mutex_;
  std::condition_variable changed_;  ///< another thread gave work, or ran some
  std::mt19937_64 random_;
  bool at_once_ = false;
  std::vector<std::unique_ptr<CUstream_st>> streams_;
  std::vector<std::shared_ptr<Capture>> captures_;  ///< under way
  std::map<std::string, int64_t> counts_;

  mutable std::mutex memory_mutex_;
  std::map<std::uintptr_t, Block> blocks_;
  size_t total_bytes_;
  size_t used_bytes_ = 0;   ///< of the pool
  size_t pool_bytes_ = 0;   ///< that the pool has: used, or released and kept
  size_t graph_bytes_ = 0;  ///< that graphs have, kept between launches
  size_t launches_ = 0;     ///< of graphs, not over yet
};

/// Prints a line and ends the process.
[[noreturn]] void fail(const std::string& what);

}  // namespace ringbolt::emulated_cuda
