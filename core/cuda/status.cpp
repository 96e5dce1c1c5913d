#include "core/cuda/status.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"

namespace ringbolt::cuda {
namespace {

// Names as in the CUDA runtime's reference, "Error handling".
constexpr int kMemoryAllocation = 2;
constexpr int kStubLibrary = 34;         // the toolkit's stand-in driver was loaded
constexpr int kInsufficientDriver = 35;  // what a machine without any driver reports
constexpr int kNoDevice = 100;
constexpr int kNoKernelImage = 209;
constexpr int kSystemNotReady = 802;

constexpr std::array<int, 18> kSticky = {
    214,  // EccUncorrectable
    220,  // NvlinkUncorrectable
    226,  // Contained
    700,  // IllegalAddress
    702,  // LaunchTimeout
    709,  // ContextIsDestroyed
    710,  // Assert
    714,  // HardwareStackError
    715,  // IllegalInstruction
    716,  // MisalignedAddress
    717,  // InvalidAddressSpace
    718,  // InvalidPc
    719,  // LaunchFailure
    721,  // TensorMemoryLeak
    805,  // MpsConnectionFailed
    810,  // MpsClientTerminated
    911,  // ExternalDevice
    999,  // Unknown
};

}  // namespace

Severity severity_of(int code) {
  if (code == kStubLibrary || code == kInsufficientDriver || code == kNoDevice ||
      code == kSystemNotReady) {
    return Severity::no_gpu;
  }
  if (code == kNoKernelImage) return Severity::no_code;
  if (code == kMemoryAllocation) return Severity::out_of_memory;
  return std::find(kSticky.begin(), kSticky.end(), code) != kSticky.end() ? Severity::sticky
                                                                          : Severity::call;
}

std::string why_unsupported(int arch) {
  constexpr int kOldest = 80;  // the first whose tensor cores take bf16
  if (arch >= kOldest) return "";
  return message(concat("this GPU has compute capability ", arch / 10, ".", arch % 10),
                 "Ringbolt computes in bf16, which begins with 8.0",
                 "Choose another one by --gpu, or use --device cpu.");
}

}  // namespace ringbolt::cuda
