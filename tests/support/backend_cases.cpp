#include "tests/support/backend_cases.h"

#include <cstdlib>

#include "core/base/error.h"
#include "core/cpu/isa.h"
#include "core/cuda/cuda_backend.h"

namespace ringbolt::testing_support {
namespace {

/// Sets a variable of the environment until the end of the scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value) : name_(name) {
    const char* before = std::getenv(name);
    had_ = before != nullptr;
    if (had_) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;
  ~ScopedVariable() {
    if (had_) {
      setenv(name_, before_.c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }

 private:
  const char* name_;
  bool had_;
  std::string before_;
};

}  // namespace

std::vector<BackendCase> backend_cases() {
  std::vector<BackendCase> cases;
  for (cpu::Isa isa : cpu::available_isas()) {
    for (DType dtype : {DType::f32, DType::bf16}) {
      cases.push_back({concat("cpu_", cpu::name_of(isa)), dtype});
    }
  }
  if (cuda_is_built()) {
    for (DType dtype : {DType::f32, DType::bf16}) cases.push_back({RINGBOLT_CUDA_CASE, dtype});
  }
  return cases;
}

std::string cuda_case() { return RINGBOLT_CUDA_CASE; }

std::string why_not(const BackendCase& which) {
  return which.on_cuda() ? why_no_cuda() : std::string();
}

std::unique_ptr<Backend> make_backend(const BackendCase& which, int threads) {
  if (which.on_cuda()) return make_cuda_backend();
  const ScopedVariable isa("RINGBOLT_CPU_ISA", which.device.substr(std::string("cpu_").size()));
  return make_cpu_backend(threads);
}

std::string case_name(const testing::TestParamInfo<BackendCase>& info) {
  return concat(info.param.device, "_", name_of(info.param.dtype));
}

}  // namespace ringbolt::testing_support
