#include "core/cuda/status.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/cuda/cuda_backend.h"

namespace ringbolt {
namespace {

using cuda::Severity;
using cuda::severity_of;
using cuda::why_unsupported;

TEST(CudaStatus, BothCodesOfAMachineWithoutAGpuMeanNoGpu) {
  EXPECT_EQ(severity_of(35), Severity::no_gpu) << "no driver";
  EXPECT_EQ(severity_of(100), Severity::no_gpu) << "a driver, and no device";
}

TEST(CudaStatus, ErrorsOfTheContextAreSticky) {
  for (const int code : {700, 716, 719, 710, 214})
    EXPECT_EQ(severity_of(code), Severity::sticky) << code;
}

TEST(CudaStatus, ErrorsOfOneCallAreNot) {
  EXPECT_EQ(severity_of(2), Severity::out_of_memory);
  for (const int code : {1, 9, 98, 400, 701, 12345})
    EXPECT_EQ(severity_of(code), Severity::call) << code;
}

TEST(CudaStatus, ABuildWithoutCodeForTheGpuIsNoDefect) {
  EXPECT_EQ(severity_of(209), Severity::no_code);
}

TEST(CudaStatus, GpusWithoutBf16AreRefused) {
  for (const int arch : {80, 86, 90, 100, 120}) EXPECT_EQ(why_unsupported(arch), "") << arch;
  EXPECT_NE(why_unsupported(75).find("compute capability 7.5"), std::string::npos);
}

TEST(CudaBackend, SaysWhatIsMissingWhereItCannotBe) {
  const std::string why = why_no_cuda();
  if (why.empty()) GTEST_SKIP() << "there is a GPU";
  if (cuda_is_built()) {
    EXPECT_THROW(static_cast<void>(make_cuda_backend()), DeviceError);
    EXPECT_NE(why.find("no NVIDIA GPU"), std::string::npos) << why;
  } else {
    EXPECT_THROW(static_cast<void>(make_cuda_backend()), NotBuilt);
    EXPECT_NE(why.find("--preset cuda"), std::string::npos) << why;
  }
  EXPECT_EQ(why.find('\n'), std::string::npos) << "one line";
}

}  // namespace
}  // namespace ringbolt
