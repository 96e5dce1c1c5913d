// Scaling laws of RoPE-based extrapolation (arXiv 2310.05209): how far a model reaches, for its
// rotary base and the length it was tuned at.
//
// The two branches of Theorem 3 do not meet at beta_0, because the critical dimension is rounded
// up: a prediction says which one it used.
#pragma once

#include <array>
#include <cstdint>

namespace ringbolt {

/// (d/2) log_base(length / 2 pi), not rounded: the pairs whose period fits into `length` tokens.
double completed_pairs(int64_t head_dim, double base, int64_t length);

/// d_extra = 2 ceil(completed_pairs), clamped to [0, d]: the dimensions whose period fits into
/// training (Lemma 1).
int64_t critical_dimension(int64_t head_dim, double base, int64_t train_length);

/// beta_0 = base^(log_{T_train/2pi}(T_tune/2pi)): tuning at a base above it reaches by the
/// larger-base law (Theorem 3). It is also the smallest base for a wanted context T_tune, in the
/// form without rounding. Requires: train_length > 2 pi.
double critical_base(double pretraining_base, int64_t train_length, int64_t tune_length);

/// The smallest base for a wanted context in the form of the authors' survey (eq. 4), with the
/// rounded critical dimension: (T_want / 2 pi)^(d / d_extra). Requires: train_length > 2 pi.
double smallest_base_rounded(int64_t head_dim, double pretraining_base, int64_t train_length,
                             int64_t wanted_length);

/// beta_1 = 2 T / pi, beta_2 = T / pi, beta_3 = T / 2 pi: below each of them extrapolation gets
/// better again, as every dimension's angle comes to pi/2, pi and 2 pi within T (Theorem 1).
std::array<double, 3> smaller_bases(int64_t tune_length);

/// T_extra = 2 pi beta^(d_extra / d) (Theorem 2), whatever beta is.
double larger_base_reach(int64_t head_dim, double pretraining_base, int64_t train_length,
                         double tune_base);

struct PredictedReach {
  enum class Branch {
    larger_base,  ///< T_extra = 2 pi beta^(d_extra / d) holds: beyond it the loss rises sharply
    tune_length,  ///< the base is at most beta_0: the tuning length itself bounds it, beyond which
                  ///< the loss rises gently
  };
  double tokens;
  Branch branch;
  int64_t critical_dimension;  ///< of pre-training, or, in the second branch, that of tuning
};

/// Theorem 3, for a model pre-trained at (pretraining_base, train_length) and tuned at (tune_base,
/// tune_length).
PredictedReach predicted_reach(int64_t head_dim, double pretraining_base, int64_t train_length,
                               double tune_base, int64_t tune_length);

/// Whether the caveat of small bases holds: tuned at a base below that of pre-training, a model has
/// a low loss far out, but does not retrieve from there (arXiv 2405.14591, figure 3; the laws' own
/// authors in their survey).
bool is_small_base(double pretraining_base, double tune_base);

}  // namespace ringbolt
