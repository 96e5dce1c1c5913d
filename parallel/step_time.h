// What a training step takes on ranks that are not there: from the rates of one device and of its
// links.
//
// A step is matrix products at their rate, attention as parallel/cost_model.h has it, what only
// moves memory at the rate of a copy, and the exchange of gradients and weights, which nothing
// hides. Row-wise operations count the bytes that each must read and write, once; recomputation is
// work like any other. Not in it: launches of anything but attention, input, checkpoints.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "parallel/cost_model.h"
#include "parallel/memory_account.h"

namespace ringbolt {

struct DeviceRates {
  double matmul_flops;           ///< flop/s of large matrix products in the model's type
  double copy_bytes_per_second;  ///< that row-wise operations read and write; a copy's at most
  MachineRates attention;        ///< and the links
};

/// Seconds of one micro-batch and the optimizer's step behind it, on each rank.
struct StepTime {
  double products = 0;
  double attention = 0;  ///< without what is waited for
  double exposed = 0;    ///< attention's transfers that nothing hides
  double rowwise = 0;    ///< norms, rotary, SwiGLU, cross entropy
  double optimizer = 0;
  double reduction = 0;  ///< of gradients, and the weights' way back

  double total() const { return products + attention + exposed + rowwise + optimizer + reduction; }
};

/// `c` with every choice made; its mesh has to divide the heads. See LLaMA (arXiv 2302.13971) for
/// the model, ZeRO (arXiv 1910.02054, section 7) for what the exchange moves.
StepTime predict_step(const TrainingShape& c, const DeviceRates& rates);

/// A way to run a step on a number of ranks.
struct StepCandidate {
  TrainingShape shape;
  StepTime time;
  int64_t memory_bytes = 0;  ///< of a rank

  /// "ring 4", "double ring 2 x 4, queries in backward", "one rank".
  std::string attention;
  double tokens_per_second() const;
};

/// All divisions of `ranks` into data and sequence ranks and all attentions of each, fastest (in
/// tokens a second) first. `c` says everything else: `batch_size` sequences a data rank. Those that
/// need more than `available_bytes`, where it is given, come last.
std::vector<StepCandidate> plan_steps(const TrainingShape& c, int ranks, const DeviceRates& rates,
                                      std::optional<int64_t> available_bytes);

}  // namespace ringbolt
