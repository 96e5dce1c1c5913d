// A stack with its registers: Boost.Context's jump, told to the address sanitizer.
#pragma once

#include <cstddef>

#include <boost/context/detail/fcontext.hpp>

namespace ringbolt::emulated_cuda {

class Fibre {
 public:
  /// The calling thread's own stack: where the first switch comes from, and the last one leads.
  Fibre() = default;
  /// Runs main(argument), which must not return, from the first switch on.
  Fibre(void (*main)(void* argument), void* argument);
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;
  /// What lies on the stack is dropped.
  ~Fibre();

  /// Leaves `this`, which is running, for `to`; returns when something switches back.
  void switch_to(Fibre& to);

 private:
  static void enter(boost::context::detail::transfer_t transfer);
  void arrive(boost::context::detail::transfer_t transfer);

  boost::context::detail::fcontext_t context_ = nullptr;
  void (*main_)(void*) = nullptr;
  void* argument_ = nullptr;
  std::byte* memory_ = nullptr;  ///< null: not ours
  const void* stack_ = nullptr;  ///< for the sanitizer: its lowest address
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace ringbolt::emulated_cuda
