#include "core/cuda/status.h"

#include <algorithm>
#include <array>

namespace ringbolt::cuda {
namespace {

// Names as in the CUDA runtime's reference, "Error handling".
constexpr int kMemoryAllocation = 2;
constexpr int kStubLibrary = 34;         // the toolkit's stand-in driver was loaded
constexpr int kInsufficientDriver = 35;  // what a machine without any driver reports
constexpr int kNoDevice = 100;
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
  if (code == kMemoryAllocation) return Severity::out_of_memory;
  return std::find(kSticky.begin(), kSticky.end(), code) != kSticky.end() ? Severity::sticky
                                                                          : Severity::call;
}

}  // namespace ringbolt::cuda
