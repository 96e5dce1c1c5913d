// The machine-readable result of a command: --json FILE.
#pragma once

#include <optional>
#include <string>

#include "io/json.h"

namespace ringbolt {

/// What every result begins with: the command and the build that ran it.
Json begin_result(const std::string& command);

/// Writes the result where --json says: to a file (atomically), to standard output for "-", or
/// nowhere.
void write_result(const std::optional<std::string>& destination, const Json& result);

/// Whether standard output is for the JSON alone.
inline bool json_is_output(const std::optional<std::string>& destination) {
  return destination == "-";
}

}  // namespace ringbolt
