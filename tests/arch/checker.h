// The repository's rules of structure, as a function of a file's path and text.
//
// Folders look left only (core, rope, parallel, io, apps; tests see all), each outside library has
// one door, includes are written from the root, files are small and their names lower case.
// CONTRIBUTING.md explains the rules to people.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ringbolt::arch {

inline constexpr int kMaxLines = 500;

/// One breach a line, "path:line: what is wrong"; empty where the file keeps all rules. `path` is
/// from the root.
std::vector<std::string> file_breaches(std::string_view path, std::string_view text);

/// Entries of the top level that no rule and no tool expects.
std::vector<std::string> top_level_breaches(const std::vector<std::string>& names);

}  // namespace ringbolt::arch
