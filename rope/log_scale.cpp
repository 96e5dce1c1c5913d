#include "rope/log_scale.h"

#include <algorithm>
#include <cmath>

namespace ringbolt {

double log_query_scale(LogScale kind, int64_t position, int64_t original_length) {
  if (kind == LogScale::none) return 1.0;
  const double scale =
      std::log(static_cast<double>(position + 1)) / std::log(static_cast<double>(original_length));
  return kind == LogScale::clipped ? std::max(1.0, scale) : scale;
}

}  // namespace ringbolt
