// Several evaluations side by side: what `ringbolt evaluate --compare` shows.
#pragma once

#include <span>
#include <string>

#include "io/json.h"

namespace ringbolt {

/// Loss against context length, a curve for each result of `ringbolt evaluate --json`, its
/// predicted reach marked. Throws: IoError, or UsageError where a value is no such result.
void draw_reach(const std::string& path, std::span<const Json> results);

/// A row for each context length, a column of losses for each result; "-" where it was not
/// evaluated.
std::string comparison_table(std::span<const Json> results);

}  // namespace ringbolt
