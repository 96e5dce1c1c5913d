// ringbolt bench --what ring: attention over ranks, each strategy measured beside its prediction.
#pragma once

#include "apps/bench_report.h"
#include "apps/ranks.h"
#include "core/backend/backend.h"
#include "parallel/cost_model.h"
#include "parallel/layout.h"

namespace ringbolt {

struct RingBench {
  std::vector<int64_t> lengths;
  std::vector<int64_t> head_dims;
  int64_t heads;
  int64_t kv_heads;
  std::vector<DType> dtypes;
  LayoutKind layout;
  double seconds;  ///< for each strategy, length, head dimension and type
  bool one_rank;   ///< the whole sequence on rank 0 alone, too
};

/// Every strategy that `world`'s ranks can run; the report of rank 0. Collective.
RankReport bench_ring(const RingBench& bench, Backend& backend, Communicator& world);

}  // namespace ringbolt
