// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011).
//
// A number is a pure function of (seed, stream, index), so initial weights and the order of the
// data are the same on any number of ranks and threads, and after any restart.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ringbolt {

class Philox {
 public:
  explicit Philox(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  /// Four independent 32-bit words of block `index`.
  std::array<uint32_t, 4> block(uint64_t index) const;
  /// 64 random bits.
  uint64_t bits(uint64_t index) const;
  /// Uniform in [0, 1), 53 bits.
  double uniform(uint64_t index) const;
  /// Standard normal by Box and Muller; two of them come of each block.
  double normal(uint64_t index) const;

 private:
  uint64_t seed_;
  uint64_t stream_;
};

/// A stream number from a name (64-bit FNV-1a), so that each tensor draws its own numbers.
uint64_t stream_of(std::string_view name);

}  // namespace ringbolt
