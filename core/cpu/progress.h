// What an operation calls between its tiles, so that an exchange between ranks moves on while the
// kernel runs.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <utility>

namespace ringbolt::cpu {

/// Calls a function at most every 100 us. What it throws must not leave a parallel loop: it is
/// kept, ends the calls, and is thrown by finish().
class Progress {
 public:
  void set(std::function<void()> function) {
    function_ = std::move(function);
    error_ = nullptr;
  }

  /// Does something on the thread that called the operation alone; the others pass. About 30 ns
  /// where nothing is due.
  void poll() noexcept;

  /// After the parallel loop, of which the calling thread may have done nothing: another core was
  /// faster.
  void finish() {
    poll();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  std::function<void()> function_;
  std::chrono::steady_clock::time_point due_;
  std::exception_ptr error_;
};

}  // namespace ringbolt::cpu
