#include "core/base/error.h"

namespace ringbolt {

void check_failed(const char* condition, const char* file, int line) {
  throw std::logic_error(
      message(concat("internal check failed: ", condition), concat(file, ":", line),
              "This is a defect of Ringbolt; please report it with the command line."));
}

}  // namespace ringbolt
