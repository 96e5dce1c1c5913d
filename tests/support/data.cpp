#include "tests/support/data.h"

#include <cstdlib>
#include <string_view>

namespace ringbolt::testing_support {
namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::filesystem::path data_path(const std::filesystem::path& relative) {
  const std::string_view chosen = environment("RINGBOLT_DATA");
  return std::filesystem::path(chosen.empty() ? RINGBOLT_DEFAULT_DATA : chosen) / relative;
}

bool has_data() { return std::filesystem::is_directory(data_path("")); }

bool running_in_ci() { return environment("CI") == "true"; }

}  // namespace ringbolt::testing_support
