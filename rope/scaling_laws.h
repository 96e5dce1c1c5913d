// Scaling laws of RoPE-based extrapolation (arXiv 2310.05209): how far a model reaches, for its rotary base and the
// length it was tuned at.
#pragma once

#include <cstdint>
#include <string>

namespace ringbolt {

/// d_extra = 2 ceil((d/2) log_base(T_train / 2 pi)), clamped to [0, d]: the dimensions whose period fits into training
/// (Lemma 1). Lengths in tokens.
int64_t critical_dimension(int64_t head_dim, double base, int64_t train_length);

/// beta_0 = base^(log_{T_train/2pi}(T_tune/2pi)): tuning at a base above it reaches by the larger-base law (Theorem 3).
/// Requires: train_length > 2 pi.
double critical_base(double pretraining_base, int64_t train_length, int64_t tune_length);

struct PredictedReach {
  enum class Branch {
    larger_base,  ///< T_extra = 2 pi beta^(d_extra / d) holds: beyond it the loss rises sharply
    tune_length,  ///< the base is at most beta_0: the tuning length itself bounds it, beyond which the loss rises
                  ///< gently
  };
  double tokens;
  Branch branch;
  int64_t critical_dimension;  ///< of pre-training, or, in the second branch, that of tuning
};

/// Theorem 3, for a model pre-trained at (pretraining_base, train_length) and tuned at (tune_base, tune_length).
PredictedReach predicted_reach(int64_t head_dim, double pretraining_base, int64_t train_length, double tune_base,
                               int64_t tune_length);

}  // namespace ringbolt
