// One block of CUDA threads on the calling thread of the CPU: threads are fibres, which change only
// where CUDA threads wait for one another. A kernel without barriers never changes: its threads are
// a loop.
//
// What CUDA leaves undefined ends the process here, with a line that says which thread waits where:
// a barrier that some threads of the block do not reach, or reach elsewhere; a shuffle without all
// lanes of its mask, or from a lane outside it. The order in which threads run comes from a seed,
// since a missing barrier shows in some orders only.
#pragma once

#include <cstdint>
#include <source_location>

#include <vector_types.h>

// CUDA's names, for the thread that is at work on this thread of the CPU.
inline constinit thread_local uint3 threadIdx{};
inline constinit thread_local uint3 blockIdx{};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};

namespace ringbolt::emulated_cuda {

struct BlockFacts {
  uint3 index;
  dim3 threads;
  dim3 grid;
  void* dynamic_shared;
};

/// Of the block at work on this thread of the CPU.
inline constinit thread_local void* dynamic_shared_memory = nullptr;

/// A kernel with its arguments.
struct Body {
  void (*call)(const void* kernel);
  const void* kernel;
  void operator()() const { call(kernel); }
};

/// Runs all threads of the block in an order that `seed` gives.
void run_block(const BlockFacts& block, const Body& body, uint64_t seed);

// --- for threads of a block ----------------------------------------------------------------------

void block_barrier(std::source_location where);
void warp_barrier(unsigned mask, std::source_location where);
/// The bits that lane `source` of the warp gave, of 0 to 31.
uint64_t shuffle(unsigned mask, uint64_t bits, unsigned source, std::source_location where);
/// One bit a lane of the mask.
unsigned ballot(unsigned mask, bool predicate, std::source_location where);
/// This thread's number in its warp.
unsigned lane_number();

}  // namespace ringbolt::emulated_cuda
