// "Did you mean": the nearest of known names to one that somebody typed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ringbolt {

/// The least number of single-character insertions, deletions, substitutions and swaps of
/// neighbours that turn a into b (optimal string alignment: Damerau 1964, no substring edited
/// twice).
int64_t edit_distance(std::string_view a, std::string_view b);

/// The known name with the least distance (the first of equals), or "" where none is near enough to
/// be meant: more than a third of the longer name would have to change, and the typed name does not
/// begin one known name only.
std::string nearest_name(std::string_view typed, const std::vector<std::string>& known);

}  // namespace ringbolt
