#include "core/base/error.h"
#include "core/cuda/cuda_backend.h"

namespace ringbolt {

std::unique_ptr<Backend> make_cuda_backend(int) { throw NotBuilt(why_no_cuda()); }

int64_t cuda_memory_bytes(int) { throw NotBuilt(why_no_cuda()); }

int cuda_device_count() { throw NotBuilt(why_no_cuda()); }

std::string cuda_bus_id(int) { throw NotBuilt(why_no_cuda()); }

bool cuda_is_built() { return false; }

std::string why_no_cuda() {
  return message("this build has no CUDA", "it was configured without RINGBOLT_CUDA",
                 "Build with: cmake --preset cuda && cmake --build --preset cuda.");
}

}  // namespace ringbolt
