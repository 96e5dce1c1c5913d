#include "io/memory_limit.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

/// None where there is no such file, or where it says "max".
std::optional<int64_t> number_in(const fs::path& file) {
  int64_t number = 0;
  if (std::ifstream(file) >> number) return number;
  return std::nullopt;
}

/// The least number in `file` of `group`, relative to `mounted`, and of the groups around it. (In a
/// container the group's path may be the host's, of which only `mounted` itself is there.)
std::optional<int64_t> least_limit(const fs::path& mounted, fs::path group,
                                   const std::string& file) {
  std::optional<int64_t> least;
  for (;; group = group.parent_path()) {
    const std::optional<int64_t> limit = number_in(mounted / group / file);
    if (limit) least = std::min(least.value_or(*limit), *limit);
    if (group.empty()) return least;
  }
}

/// "memory" among "cpu,memory".
bool names_memory(const std::string& controllers) {
  return ("," + controllers + ",").find(",memory,") != std::string::npos;
}

}  // namespace

int64_t machine_memory() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
}

std::optional<int64_t> memory_limit(const std::string& root) {
  const fs::path mounted = fs::path(root) / "sys/fs/cgroup";
  std::ifstream groups(fs::path(root) / "proc/self/cgroup");
  std::string number;
  std::string controllers;
  std::string path;
  std::optional<int64_t> limit;
  while (std::getline(groups, number, ':') && std::getline(groups, controllers, ':') &&
         std::getline(groups, path)) {
    const fs::path group = fs::path(path).relative_path();
    if (controllers.empty()) {
      limit = least_limit(mounted, group, "memory.max");
    } else if (names_memory(controllers)) {
      return least_limit(mounted / "memory", group, "memory.limit_in_bytes");
    }
  }
  return limit;
}

int64_t usable_memory() {
  const int64_t machine = machine_memory();
  return std::min(memory_limit().value_or(machine), machine);
}

}  // namespace ringbolt
