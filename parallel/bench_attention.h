// Attention over ranks against the clock, beside what the cost model predicts.
#pragma once

#include "parallel/cost_model.h"

namespace ringbolt {

struct PassTiming {
  double seconds;          ///< median over repetitions of the slowest rank's time
  double exposed_seconds;  ///< waited for messages, mean over repetitions and ranks (and for slower
                           ///< ranks)
  int64_t bytes;           ///< received by a rank
};

struct AttentionTiming {
  PassTiming forward;
  PassTiming backward;
};

/// Forward and backward of a layer's attention on random data in [-1, 1], after a pass to warm up,
/// for about `seconds`. Requires: `world` is one of the backend's memory; mesh and choice as a
/// candidate of plan_attention(job, …). Collective; the same result on all ranks.
AttentionTiming time_attention(Backend& backend, Communicator& world, const AttentionJob& job,
                               LayoutKind layout, const MeshShape& shape,
                               const AttentionChoice& choice, double seconds);

}  // namespace ringbolt
