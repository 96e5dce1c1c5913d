// ringbolt rope law: what the scaling laws say of a rotary base, the lengths of training and
// tuning, and a wanted length.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/options.h"
#include "rope/base_bound.h"
#include "rope/method.h"
#include "rope/scaling_laws.h"

namespace ringbolt {

int run_rope_law(const Arguments& arguments);

struct LawInput {
  int64_t head_dim = 128;
  double rope_base = 1e4;
  int64_t train_length = 4096;
  double tune_base = 1e4;
  int64_t tune_length = 4096;
  std::vector<int64_t> wanted_lengths;
  ModelConfig tuned;  ///< base and rotary method of the tuned model, for what is said of each pair
};

/// What a wanted length asks of the base.
struct WantedLength {
  int64_t tokens;
  double law_base;     ///< scaling laws, without rounding
  double survey_base;  ///< the same with the rounded critical dimension
  BaseBound bound;     ///< B(m) >= 0
  bool is_reached;     ///< by the prediction for the tuned model
};

/// One pair of dimensions.
struct PairLaw {
  double trained_period;     ///< at the base of pre-training
  double tuned_period;       ///< by the tuned model's method
  double trained_rotations;  ///< periods within the training length
  double tuned_rotations;    ///< tuned periods within the tuning length
  double disturbance;  ///< of the distribution of angles, from training to the farthest length
  double gap;          ///< resonance gap of the tuned pair beyond the tuning length, in rad
};

struct Law {
  LawInput input;
  int64_t critical_dimension;
  double critical_base;
  PredictedReach reach;
  std::array<double, 3> smaller_bases;
  int64_t farthest_length;  ///< the largest wanted length, or twice the tuning length
  std::optional<int64_t> trained_negative;  ///< first m with B(m) < 0 up to a million, of each base
  std::optional<int64_t> tuned_negative;
  std::vector<WantedLength> wanted;
  std::vector<PairLaw> pairs;
};

/// Periods of the dimensions against the lengths; how many are complete at a glance.
void plot_periods(const std::string& path, const Law& law);
/// Predicted reach against the base of tuning.
void plot_reach(const std::string& path, const Law& law);
/// B(m) of both bases.
void plot_bound(const std::string& path, const Law& law);

}  // namespace ringbolt
