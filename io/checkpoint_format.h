// What writing and reading a checkpoint share: file names, formats, and the rule that pieces cover
// a tensor.
#pragma once

#include <span>
#include <string>

#include "io/checkpoint.h"

namespace ringbolt {

inline constexpr const char* kIndexName = "index.h5";
inline constexpr const char* kIndexFormat = "ringbolt-checkpoint";
inline constexpr const char* kShardFormat = "ringbolt-checkpoint-shard";

/// "shard-00003.h5"
std::string shard_name(int rank);

/// Requires: pieces of one tensor by ascending first element, at least one.
/// Throws: IoError where they leave a gap, overlap, or disagree on shape or type.
void check_cover(const std::string& folder, std::span<const TensorPiece> pieces);

}  // namespace ringbolt
