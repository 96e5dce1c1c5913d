// Operations that memory bounds, each beside a plain copy of the device's memory: bytes per second,
// and their share of what the copy moves in the same run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/bench/workloads.h"

namespace ringbolt {

struct RowwiseCase {
  int64_t tokens;  ///< T
  int64_t hidden;  ///< E
  int64_t ffn;     ///< F
  int64_t heads;   ///< H, of E / H each
  int64_t vocab;   ///< V
};

struct RowwiseResult {
  std::string name;
  DType dtype;
  Timing timing;                 ///< of one call
  double bytes;                  ///< that a call must read and write, each element once
  double copy_bytes_per_second;  ///< read and written, the larger of one measurement before and one
                                 ///< after

  double bytes_per_second() const { return bytes / timing.median_seconds; }
  double copy_share() const { return bytes_per_second() / copy_bytes_per_second; }
};

/// Every row-wise operation of a training step. `seconds` for each figure.
std::vector<RowwiseResult> bench_rowwise(Backend& backend, const RowwiseCase& shape, DType dtype,
                                         double seconds);

/// Bytes per second of all of them, one after another: a figure to predict with, from three calls
/// of each.
double rowwise_rate(Backend& backend, const RowwiseCase& shape, DType dtype);

}  // namespace ringbolt
