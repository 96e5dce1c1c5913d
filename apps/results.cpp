#include "apps/results.h"

#include <iostream>

#include "core/base/build_info.h"

namespace ringbolt {

Json begin_result(const std::string& command) {
  Json result = Json::object();
  result.set("command", command).set("build", build_line());
  return result;
}

void write_result(const std::optional<std::string>& destination, const Json& result) {
  if (!destination) return;
  if (json_is_output(destination)) {
    std::cout << result.dump(2) << '\n';
  } else {
    write_json_file(*destination, result);
  }
}

}  // namespace ringbolt
