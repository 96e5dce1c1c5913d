// The device behind the emulated CUDA runtime: memory of the host, streams as queues.
//
// Work waits in its stream until the host waits for something; then the device picks, in an order
// that a seed gives, among the streams whose next piece may run. Nothing but events and waiting
// orders two streams, so a missing dependency gives a wrong result for some seeds. What a program
// may not do is refused or ends the process with one line: copies between memories that are not
// what they are said to be, or that end outside a block.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

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
};

}  // namespace ringbolt::emulated_cuda

struct CUstream_st {
  std::deque<ringbolt::emulated_cuda::Work> queue;
};
struct CUevent_st {
  std::shared_ptr<ringbolt::emulated_cuda::Record> latest;  ///< null: never recorded
  bool timed = true;
};

namespace ringbolt::emulated_cuda {

enum class Residence { pageable, pinned, device };

class Device {
 public:
  static Device& get();

  /// Chooses orders from here on: of streams, and of threads within a block. Seed 0 runs work when
  /// it is enqueued. The process begins with that of RINGBOLT_EMULATED_CUDA_SEED, or 1.
  void set_seed(uint64_t seed);

  // --- streams, events
  CUstream_st* create_stream();
  void destroy_stream(CUstream_st* stream);
  cudaError_t enqueue(CUstream_st* stream, const char* what, std::function<void()> run);
  /// `run` is given a seed of its own.
  cudaError_t enqueue_seeded(CUstream_st* stream, const char* what,
                             std::function<void(uint64_t)> run);
  void wait(CUstream_st* stream, const CUevent_st& event);
  void record(CUstream_st* stream, CUevent_st& event);
  void synchronize(CUstream_st* stream);
  void synchronize(const CUevent_st& event);
  void synchronize();
  /// These let the device do some work, or none.
  bool is_done(CUstream_st* stream);
  bool is_done(const CUevent_st& event);

  // --- memory
  /// Filled with NaNs in the stream's order.
  cudaError_t allocate(void** pointer, size_t bytes, CUstream_st* stream);
  void release(void* pointer, CUstream_st* stream);
  void* allocate_pinned(size_t bytes);
  void release_pinned(void* pointer);
  Residence residence(const void* pointer);
  size_t free_bytes();
  /// 8 GiB, or as many as RINGBOLT_EMULATED_CUDA_GIB says.
  static size_t total_bytes();

  /// For work that runs: ends the process unless the bytes lie in one block of the device, or, on
  /// the host, in none of it.
  void require_device(const void* pointer, size_t bytes, const char* what);
  void require_host(const void* pointer, size_t bytes, const char* what);

 private:
  struct Block {
    size_t bytes;
    Residence residence;
  };

  Device();
  CUstream_st& checked(CUstream_st* stream);
  void append(CUstream_st* stream, Work work);
  bool run_one();
  void run_first(CUstream_st& stream);
  template <class Done>
  void run_until(const Done& done, const std::function<CUstream_st*()>& needed);
  CUstream_st* needed_for(CUstream_st* stream);
  CUstream_st* stream_of(const Record* record);
  void drain();
  std::map<std::uintptr_t, Block>::const_iterator block_of(const void* pointer) const;
  void free_block(void* pointer, Residence residence);

  std::mutex mutex_;
  std::mt19937_64 random_;
  bool at_once_ = false;
  std::vector<std::unique_ptr<CUstream_st>> streams_;
  mutable std::mutex memory_mutex_;
  std::map<std::uintptr_t, Block> blocks_;
  size_t used_bytes_ = 0;
};

/// Prints a line and ends the process.
[[noreturn]] void fail(const std::string& what);

}  // namespace ringbolt::emulated_cuda
