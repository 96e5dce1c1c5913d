#include "tests/support/emulated_cuda/fibre.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace ringbolt::emulated_cuda {
namespace {

using boost::context::detail::transfer_t;

constexpr size_t kStackBytes = size_t{128} << 10;

struct Switch {
  Fibre* from;
  Fibre* to;
};

#if defined(__SANITIZE_ADDRESS__)
void leave_stack(void** fake, const void* stack, size_t bytes) {
  __sanitizer_start_switch_fiber(fake, stack, bytes);
}
void enter_stack(void* fake, const void** stack_left, size_t* bytes_left) {
  __sanitizer_finish_switch_fiber(fake, stack_left, bytes_left);
}
#else
void leave_stack(void**, const void*, size_t) {}
void enter_stack(void*, const void**, size_t*) {}
#endif

}  // namespace

Fibre::Fibre(void (*main)(void*), void* argument) : main_(main), argument_(argument) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, page, PROT_NONE);  // a stack that is too small ends the process
  memory_ = static_cast<std::byte*>(memory);
  stack_ = memory_ + page;
  stack_bytes_ = kStackBytes;
  context_ =
      boost::context::detail::make_fcontext(memory_ + page + kStackBytes, kStackBytes, enter);
}

Fibre::~Fibre() {
  if (memory_ != nullptr) munmap(memory_, kStackBytes + static_cast<size_t>(sysconf(_SC_PAGESIZE)));
}

void Fibre::switch_to(Fibre& to) {
  Switch both{this, &to};
  leave_stack(&fake_stack_, to.stack_, to.stack_bytes_);
  arrive(boost::context::detail::jump_fcontext(to.context_, &both));
}

/// Back on this fibre's stack: notes where the one that was left goes on.
void Fibre::arrive(transfer_t transfer) {
  const Switch* both = static_cast<const Switch*>(transfer.data);
  both->from->context_ = transfer.fctx;
  const void* stack = nullptr;
  size_t bytes = 0;
  enter_stack(fake_stack_, &stack, &bytes);
  if (both->from->memory_ == nullptr) {
    both->from->stack_ = stack;
    both->from->stack_bytes_ = bytes;
  }
}

void Fibre::enter(transfer_t transfer) {
  Fibre* self = static_cast<const Switch*>(transfer.data)->to;
  self->arrive(transfer);
  self->main_(self->argument_);
}

}  // namespace ringbolt::emulated_cuda
