#include "core/cpu/progress.h"

#include "core/cpu/parallel_for.h"

namespace ringbolt::cpu {

void Progress::poll() noexcept {
  if (!function_ || error_ || thread_index() != 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < due_) return;
  try {
    function_();
  } catch (...) {
    error_ = std::current_exception();
  }
  due_ = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
}

}  // namespace ringbolt::cpu
