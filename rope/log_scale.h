// Log-scaled attention: queries are multiplied by ln(position + 1) / ln(L), so that attention over
// more keys stays as sharp as it was trained (ReRoPE and LongEmbed clip the factor at 1, arXiv
// 2404.12096 section 4; CLEX's evaluation does not).
#pragma once

#include <cstdint>

#include "core/model/rope_scaling.h"

namespace ringbolt {

/// The factor of the query at this position (from 0). Requires: L > 1.
double log_query_scale(LogScale kind, int64_t position, int64_t original_length);

}  // namespace ringbolt
