// What `ringbolt bench` times: matrix products, attention, whole training steps, each beside the
// machine's measured peak.
//
// A figure is a median over repetitions after a warm-up, on random data in [-1, 1]. FLOP formulas:
// a matrix product 2 M N K; attention 4 D (forward) or 10 D (backward) a visible query-key pair and
// head; a training step 6 FLOP a token and matrix parameter (head included, embedding look-up not)
// plus attention at 12 D a pair and head: no recomputation counts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/backend/backend.h"
#include "core/model/attention_operands.h"
#include "core/model/block.h"
#include "core/model/config.h"
#include "core/model/rotary_table.h"

namespace ringbolt {

struct Timing {
  double median_seconds;
  double min_seconds;
  double max_seconds;
  int64_t repetitions;
};

/// Requires: not empty.
double median(std::vector<double> values);

struct Repetition {
  int64_t least = 3;               ///< how often, however long it takes
  std::function<void()> before{};  ///< called before each repetition, and not timed
};

/// Runs `work` once to warm up, then until `seconds` have passed.
Timing time_repeatedly(const std::function<void()>& work, double seconds,
                       const Repetition& repetition = {});

struct BenchResult {
  std::string name;
  DType dtype;
  Timing timing;
  double flops;  ///< floating-point operations of one repetition
  double peak;   ///< FLOP/s of the machine: the median of short measurements, one before each
                 ///< repetition
  int64_t resident_bytes =
      0;  ///< of the whole process while it ran, at most; 0 where the system does not tell

  double rate() const { return flops / timing.median_seconds; }
  double peak_share() const { return rate() / peak; }
};

/// Forgets the process's largest resident memory, so that resident_peak_bytes() counts from here.
void reset_resident_peak();
/// The most memory that this process had resident since then, in bytes; 0 where the system does not
/// tell.
int64_t resident_peak_bytes();

/// FLOP/s of this machine for inputs of a dtype, from a run of some milliseconds. Clocks move with
/// what shares a machine, so that it is measured in alternation with what is compared with it.
using PeakMeasure = std::function<double(DType dtype)>;
/// How long such a run takes.
inline constexpr double kPeakSeconds = 0.01;
/// What a square product reaches, for a device whose peak no loop of ours can show: of 256 rows,
/// doubled until one takes kPeakSeconds, 4096 at most in f32 and 8192 in bf16. Keeps the operands:
/// 192 MiB for f32, 384 MiB for bf16, at most.
PeakMeasure matmul_peak(Backend& backend);

struct MatmulCase {
  std::string name;
  int64_t m, n, k;
  Transpose transpose_a, transpose_b;
};
/// Shapes of a training step of `tokens` tokens: the projection to gate and up, its input gradient
/// and its weight gradient, the vocabulary for at most 1024 of the tokens; and a square of as many.
std::vector<MatmulCase> matmul_cases(const ModelConfig& config, int64_t tokens);
BenchResult bench_matmul(Backend& backend, const MatmulCase& shape, DType dtype, double seconds,
                         const PeakMeasure& peak);

struct AttentionCase {
  int64_t tokens;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  AttentionDType computed_in =
      AttentionDType::model;  ///< of operands that are converted before the clock runs
};
/// Causal attention of one sequence; forward, then backward. Requires: computed in the model's
/// type.
std::vector<BenchResult> bench_attention(Backend& backend, const AttentionCase& shape, DType dtype,
                                         double seconds, const PeakMeasure& peak);
/// The forward alone, in any type.
BenchResult bench_attention_forward(Backend& backend, const AttentionCase& shape, DType dtype,
                                    double seconds, const PeakMeasure& peak);

struct TrainingFlops {
  double causal;  ///< of one step, attention counted over the pairs that the mask leaves
  double full;    ///< attention counted over all pairs
};
/// FLOPs of forward and backward over `sequences` sequences of `context_length` tokens,
/// recomputation not counted.
TrainingFlops training_flops(const ModelConfig& config, int64_t sequences, int64_t context_length);

struct StepCase {
  ModelConfig config;
  int64_t context_length;
  int64_t batch_size;
  Recompute recompute;
  bool recorded = false;  ///< replays recorded micro-batches (core/model/recorded_micro_batches.h)
};
struct StepBench {
  BenchResult result;  ///< by the causal count
  TrainingFlops flops;
  double tokens_per_second;
  int64_t peak_bytes;  ///< of tensors
};
/// A whole optimizer step of a model with initial weights, on random tokens.
StepBench bench_training_step(Backend& backend, const StepCase& step, DType dtype, double seconds,
                              const PeakMeasure& peak, const RotaryTables& rotary);

}  // namespace ringbolt
