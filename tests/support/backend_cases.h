// Which devices and types a test of operations runs on: every instruction set of the CPU that this
// machine has and, in a build with CUDA, the GPU, each with f32 and bf16 activations. Where there
// is no GPU its cases are skipped, saying why: never passed. In a build with RINGBOLT_CUDA=emulated
// the same backend runs on the emulated device, and its cases are named after that.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/backend/backend.h"

namespace ringbolt::testing_support {

struct BackendCase {
  std::string device;  ///< "cpu_avx2", "cuda", "emulated"
  DType dtype;         ///< A

  /// By the CUDA backend, on a GPU or on the emulated device.
  bool on_cuda() const { return device == "cuda" || device == "emulated"; }
};

std::vector<BackendCase> backend_cases();
/// "cuda", or "emulated" where this build's CUDA device is that.
std::string cuda_case();
std::unique_ptr<Backend> make_backend(const BackendCase& which, int threads = 0);
/// "cpu_avx2_bf16", for INSTANTIATE_TEST_SUITE_P.
std::string case_name(const ::testing::TestParamInfo<BackendCase>& info);
inline void PrintTo(const BackendCase& which, std::ostream* out) {
  *out << which.device << ' ' << name_of(which.dtype);
}

/// Why the case cannot run here, or "".
std::string why_not(const BackendCase& which);

/// A test of one device and type.
class BackendTest : public ::testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    if (const std::string why = why_not(GetParam()); !why.empty()) GTEST_SKIP() << why;
    backend_ = make_backend(GetParam());
  }
  Backend& backend() { return *backend_; }
  DType dtype() const { return GetParam().dtype; }

 private:
  std::unique_ptr<Backend> backend_;
};

/// What one rounding to the type costs at most, relative: f32 has 24 digits of significand, bf16
/// has 8.
inline double eps(DType dtype) { return dtype == DType::bf16 ? 0x1p-8 : 0x1p-24; }

}  // namespace ringbolt::testing_support

#define RINGBOLT_FOR_EACH_BACKEND(suite)                                                      \
  INSTANTIATE_TEST_SUITE_P(Devices, suite,                                                    \
                           ::testing::ValuesIn(::ringbolt::testing_support::backend_cases()), \
                           ::ringbolt::testing_support::case_name)
