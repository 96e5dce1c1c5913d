// What a CUDA error code means for the program. Plain numbers, so that builds without CUDA test it,
// too.
//
// Most errors are of one call and are thrown. After a sticky one (a kernel went wrong) every later
// call of the process fails, and memory may hold anything: such a process must end.
#pragma once

#include <string>

namespace ringbolt::cuda {

enum class Severity {
  no_gpu,         ///< no driver, or no device: this machine has no GPU that can be used
  no_code,        ///< this build has no kernels for this GPU
  out_of_memory,  ///< of this allocation
  call,           ///< of this call; the context lives on
  sticky,         ///< of the context
};

/// `code`: a cudaError_t other than success. Codes that later toolkits may add count as of the
/// call.
Severity severity_of(int code);

/// Why a GPU of compute capability `arch` (75 for 7.5) cannot be used, as an error's text; "" where
/// it can.
std::string why_unsupported(int arch);

}  // namespace ringbolt::cuda
