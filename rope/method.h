// A model's rotary method: from its configuration to frequencies, the factor on cos and sin, and
// the scale of queries.
//
// Order of composition: dimensions that rotate (partial rotation) -> frequencies of the method at a
// length -> whole periods (resonance) -> pairs that do not rotate (p-RoPE). Most methods ignore the
// length; angles_depend_on_length says which do not. Schedules are kept, so that asking again for
// the same length costs nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/model/config.h"
#include "rope/clex.h"

namespace ringbolt {

struct RotarySchedule {
  std::vector<double> frequencies;  ///< (R/2), in rad a position
  double attention_factor = 1.0;    ///< multiplies cos and sin, so logits by its square
};

/// The schedule of a configuration for sequences of `length` tokens. CLEX without weights is as
/// training begins.
RotarySchedule rotary_schedule(const ModelConfig& config, int64_t length,
                               const ClexWeights& clex = {});

class RotaryMethod {
 public:
  explicit RotaryMethod(const ModelConfig& config, ClexWeights clex = {})
      : config_(config), clex_(std::move(clex)) {}

  /// What CLEX's network has learnt; schedules are made anew.
  void set_clex_weights(ClexWeights weights) {
    clex_ = std::move(weights);
    schedule_.reset();
  }

  /// The reference holds until the next call with another length.
  const RotarySchedule& at(int64_t length) const;
  bool depends_on_length() const { return angles_depend_on_length(config_.rope_scaling); }
  bool scales_queries() const { return config_.rope_scaling.log_scale != LogScale::none; }
  double query_scale(int64_t position) const;
  const ModelConfig& config() const { return config_; }
  /// Schedules made so far: one for each length that matters and differs from the last one's.
  int64_t schedules_made() const { return schedules_made_; }

 private:
  /// What of the length matters.
  int64_t key_of(int64_t length) const;

  ModelConfig config_;
  ClexWeights clex_;
  mutable std::optional<RotarySchedule> schedule_;
  mutable int64_t key_ = 0;
  mutable int64_t schedules_made_ = 0;
};

}  // namespace ringbolt
