// A model's forward over one long sequence against the clock, beside the floor that attention sets
// it.
//
// The pass is the one that evaluates a window (core/evaluate/context_loss.h), on random tokens: ids
// go in and each token's loss comes out, a layer at a time, over any ranks. Its floor is its
// attention's FLOP at the rate of single calls, one on each rank, all at once so that ranks which
// share a device or its cores share them there, too.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/bench/layer_forward.h"
#include "core/model/placement.h"
#include "core/model/rotary_table.h"
#include "core/model/transformer.h"
#include "parallel/communicator.h"

namespace ringbolt {

/// FLOP/s of one of the ranks.
struct ForwardRates {
  int64_t attention_tokens = 0;  ///< of the calls that were timed
  int64_t matrix_tokens = 0;
  double attention = 0;
  double matrices = 0;
};

/// Medians of calls on every rank at once, their mean over ranks; attention over one causal
/// sequence of `attention_tokens`, a layer's own matrix products of `matrix_tokens` rows; `seconds`
/// for each shape. Collective; the same on all ranks.
ForwardRates measure_forward_rates(Backend& backend, Communicator& world, const ModelConfig& config,
                                   DType dtype, AttentionDType attention_dtype,
                                   int64_t attention_tokens, int64_t matrix_tokens, double seconds);
/// The higher of each: of measurements before and after a pass the one that flatters it less.
ForwardRates higher(const ForwardRates& a, const ForwardRates& b);

/// Of the slowest rank; medians over passes.
struct ForwardTiming {
  double seconds = 0;                 ///< from ids in host memory to losses there
  double table_seconds = 0;           ///< of them, for the rotary table
  std::vector<double> layer_seconds;  ///< (L)
  int64_t passes = 0;
  int64_t peak_bytes = 0;  ///< of tensors, the largest of the ranks
  double loss = 0;         ///< mean; near ln V where the weights know nothing
};

struct ForwardPasses {
  int64_t least = 1;   ///< however long they take
  double seconds = 0;  ///< and as many more as this has room for
};
/// Passes over `tokens` random tokens. The device is waited for after each layer. `progress` sees
/// the first pass. Collective; the same on all ranks.
ForwardTiming time_forward(Backend& backend, Communicator& world, Transformer& model,
                           Placement& placement, const RotaryTables& rotary, int64_t tokens,
                           const ForwardPasses& repeat, const LayerProgress& progress = {});

/// What a timing is held to.
struct ForwardFloor {
  ForwardFlops flops;  ///< of the whole pass
  ForwardRates rates;
  int ranks;

  double attention_seconds() const { return flops.attention / (ranks * rates.attention); }
  double seconds_with_products() const {
    return attention_seconds() + flops.matrices / (ranks * rates.matrices);
  }
};

}  // namespace ringbolt
