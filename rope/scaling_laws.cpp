#include "rope/scaling_laws.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace ringbolt {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

void require_a_period(int64_t train_length) {
  if (static_cast<double>(train_length) > kTurn) return;
  throw UsageError(message(concat("no critical base for a training length of ", train_length),
                           "the law needs more than 2 pi tokens",
                           "Give the length of pre-training."));
}

}  // namespace

double completed_pairs(int64_t head_dim, double base, int64_t length) {
  return static_cast<double>(head_dim) / 2 * std::log(static_cast<double>(length) / kTurn) /
         std::log(base);
}

int64_t critical_dimension(int64_t head_dim, double base, int64_t train_length) {
  const double pairs = std::ceil(completed_pairs(head_dim, base, train_length));
  return std::clamp<int64_t>(2 * static_cast<int64_t>(pairs), 0, head_dim);
}

double critical_base(double pretraining_base, int64_t train_length, int64_t tune_length) {
  require_a_period(train_length);
  const double tuned = std::log(static_cast<double>(tune_length) / kTurn);
  const double trained = std::log(static_cast<double>(train_length) / kTurn);
  return std::pow(pretraining_base, tuned / trained);
}

double smallest_base_rounded(int64_t head_dim, double pretraining_base, int64_t train_length,
                             int64_t wanted_length) {
  require_a_period(train_length);
  const auto dimension =
      static_cast<double>(critical_dimension(head_dim, pretraining_base, train_length));
  return std::pow(static_cast<double>(wanted_length) / kTurn,
                  static_cast<double>(head_dim) / dimension);
}

std::array<double, 3> smaller_bases(int64_t tune_length) {
  const auto length = static_cast<double>(tune_length);
  return {2 * length / std::numbers::pi, length / std::numbers::pi, length / kTurn};
}

double larger_base_reach(int64_t head_dim, double pretraining_base, int64_t train_length,
                         double tune_base) {
  const auto dimension =
      static_cast<double>(critical_dimension(head_dim, pretraining_base, train_length));
  return kTurn * std::pow(tune_base, dimension / static_cast<double>(head_dim));
}

PredictedReach predicted_reach(int64_t head_dim, double pretraining_base, int64_t train_length,
                               double tune_base, int64_t tune_length) {
  if (tune_base > critical_base(pretraining_base, train_length, tune_length)) {
    return {larger_base_reach(head_dim, pretraining_base, train_length, tune_base),
            PredictedReach::Branch::larger_base,
            critical_dimension(head_dim, pretraining_base, train_length)};
  }
  return {static_cast<double>(tune_length), PredictedReach::Branch::tune_length,
          critical_dimension(head_dim, tune_base, tune_length)};
}

bool is_small_base(double pretraining_base, double tune_base) {
  return tune_base < pretraining_base;
}

}  // namespace ringbolt
