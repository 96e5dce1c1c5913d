// The rates that ringbolt plan predicts times from: what the user says of a machine, or this one's,
// measured.
#pragma once

#include <optional>

#include "apps/common_options.h"
#include "apps/ranks.h"
#include "io/json.h"
#include "parallel/step_time.h"

namespace ringbolt {

struct RateOptions {
  bool measure = false;
  DeviceOptions device;  ///< that is measured
  int64_t local_ranks = 1;
  std::optional<double> products;  ///< TFLOP/s
  std::optional<double> attention_forward;
  std::optional<double> attention_backward;
  std::optional<double> copy;          ///< GB/s
  std::optional<double> node_link;     ///< GB/s each way
  std::optional<double> network_link;  ///< GB/s each way
  double node_latency = 5;             ///< us
  double network_latency = 10;
  double launch = 5;
  int64_t ranks_per_node = 8;

  void declare(OptionSet& options);
  /// Whether times are asked for.
  bool wanted() const;
  /// As stated. Throws: UsageError naming what is missing for up to `ranks` ranks.
  DeviceRates stated(int64_t ranks) const;
  /// Of this machine while `local_ranks` ranks work, for a model and a context length; some
  /// seconds. In place of a copy's rate it has that of the row-wise operations themselves.
  DeviceRates measured(const ModelConfig& model, DType dtype, int64_t context_length) const;
};

Json to_json(const DeviceRates& rates);
/// One line for people.
std::string describe(const DeviceRates& rates);

}  // namespace ringbolt
