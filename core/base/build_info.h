// What this program was built from and with: printed by `info`, stored with every result.
//
// The values are written by cmake/write_build_info.cmake at build time, into one small object, so
// that a new commit recompiles nothing else.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace ringbolt {

struct BuildInfo {
  std::string version;     ///< "0.1.0"
  std::string commit;      ///< twelve digits, or "unknown" outside a git checkout
  bool modified = false;   ///< the checkout had changes that are in no commit
  std::string compiler;    ///< "GNU 12.2.0"
  std::string build_type;  ///< "Release"
  std::string flags;       ///< of the C++ compiler, warnings aside
  std::string sanitizers;  ///< "address,undefined", or empty
  std::vector<std::pair<std::string, std::string>> libraries;  ///< name and version
};

const BuildInfo& build_info();

/// On one line: "ringbolt 0.1.0 (commit 9602d31a0b1c, modified; GNU 12.2.0, Release)".
std::string build_line();

}  // namespace ringbolt
