#include "rope/scaling_laws.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace ringbolt {
namespace {

/// log_base(length / 2 pi): the share of a head's pairs whose period is below `length`.
double covered_share(double base, double length) { return std::log(length / (2 * std::numbers::pi)) / std::log(base); }

}  // namespace

int64_t critical_dimension(int64_t head_dim, double base, int64_t train_length) {
  const double pairs = static_cast<double>(head_dim) / 2 * covered_share(base, static_cast<double>(train_length));
  return std::clamp<int64_t>(2 * static_cast<int64_t>(std::ceil(pairs)), 0, head_dim);
}

double critical_base(double pretraining_base, int64_t train_length, int64_t tune_length) {
  if (static_cast<double>(train_length) <= 2 * std::numbers::pi) {
    throw UsageError(message(concat("no critical base for a training length of ", train_length),
                             "the law needs more than 2 pi tokens", "Give the length of pre-training."));
  }
  const double tuned = std::log(static_cast<double>(tune_length) / (2 * std::numbers::pi));
  const double trained = std::log(static_cast<double>(train_length) / (2 * std::numbers::pi));
  return std::pow(pretraining_base, tuned / trained);
}

PredictedReach predicted_reach(int64_t head_dim, double pretraining_base, int64_t train_length, double tune_base,
                               int64_t tune_length) {
  if (tune_base > critical_base(pretraining_base, train_length, tune_length)) {
    const int64_t dimension = critical_dimension(head_dim, pretraining_base, train_length);
    const double share = static_cast<double>(dimension) / static_cast<double>(head_dim);
    return {2 * std::numbers::pi * std::pow(tune_base, share), PredictedReach::Branch::larger_base, dimension};
  }
  return {static_cast<double>(tune_length), PredictedReach::Branch::tune_length,
          critical_dimension(head_dim, tune_base, tune_length)};
}

}  // namespace ringbolt
