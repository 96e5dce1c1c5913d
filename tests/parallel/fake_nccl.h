// A stand-in for NCCL between the ranks of a process, on the streams of tests/parallel/fake_cuda.h:
// groups of sends and receives run at once, a stream is held until its peer's has come, and what
// can go wrong does so when asked.
#pragma once

#include <atomic>
#include <cstdint>

namespace ringbolt::testing_support {

struct FakeNccl {
  static constexpr int kSystemError = 2;  ///< ncclSystemError

  int version = 22809;
  int unique_id_result = 0;  ///< of ncclGetUniqueId, an ncclResult_t
  int refused_rank = -1;     ///< whose ncclCommInitRankConfig fails
  std::atomic<int> failing_rank =
      -1;                 ///< whose communicators have an asynchronous error from now on
  int64_t made = 0;       ///< communicators
  int64_t destroyed = 0;  ///< of them in order
  int64_t aborted = 0;
};

/// Under no lock: set before ranks run, or by the rank concerned.
FakeNccl& fake_nccl();

}  // namespace ringbolt::testing_support
