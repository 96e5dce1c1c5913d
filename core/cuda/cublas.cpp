#include "core/cuda/cublas.h"

#include <cublasLt.h>

#include <map>

#include "core/base/error.h"
#include "core/cuda/matmul_problem.h"
#include "core/cuda/rowwise.h"

namespace ringbolt::cuda {
namespace {

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(
      message(concat("a cuBLAS call failed: ", call), cublasLtGetStatusString(status),
              "Please report it with the command line and the output of ringbolt info."));
}
#define RINGBOLT_CUBLAS(call) check((call), #call)

template <auto kDestroy>
struct DestroyBlas {
  template <class T>
  void operator()(T* handle) const noexcept {
    static_cast<void>(kDestroy(handle));  // nothing is left to be done about it
  }
};
using Handle =
    std::unique_ptr<std::remove_pointer_t<cublasLtHandle_t>, DestroyBlas<cublasLtDestroy>>;
using Descriptor = std::unique_ptr<std::remove_pointer_t<cublasLtMatmulDesc_t>,
                                   DestroyBlas<cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<std::remove_pointer_t<cublasLtMatrixLayout_t>,
                               DestroyBlas<cublasLtMatrixLayoutDestroy>>;
using Preference = std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>,
                                   DestroyBlas<cublasLtMatmulPreferenceDestroy>>;

constexpr uint64_t kBiasAlignment = 16;  // bytes; nothing tells the library of less

cudaDataType_t type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

Layout layout_of(const ColumnMajor& x) {
  cublasLtMatrixLayout_t layout = nullptr;
  RINGBOLT_CUBLAS(cublasLtMatrixLayoutCreate(&layout, type_of(x.dtype),
                                             static_cast<uint64_t>(x.rows),
                                             static_cast<uint64_t>(x.columns), x.stride));
  return Layout(layout);
}

template <class T>
void set(const Descriptor& descriptor, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  RINGBOLT_CUBLAS(
      cublasLtMatmulDescSetAttribute(descriptor.get(), attribute, &value, sizeof(value)));
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value) {
  RINGBOLT_CUBLAS(
      cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
}

Descriptor descriptor_of(const MatmulProblem& p) {
  cublasLtMatmulDesc_t raw = nullptr;
  RINGBOLT_CUBLAS(cublasLtMatmulDescCreate(&raw, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  Descriptor descriptor(raw);
  set(descriptor, CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_left ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(descriptor, CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_right ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (p.bias) {
    set(descriptor, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(descriptor, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(*p.bias));
  }
  return descriptor;
}

/// How one problem is run: the library's algorithm, or none (then by our own kernel).
struct Plan {
  Descriptor descriptor;
  Layout left, right, result;
  std::optional<cublasLtMatmulAlgo_t> algorithm;
};

Plan make_plan(cublasLtHandle_t handle, const MatmulProblem& p) {
  Plan plan{descriptor_of(p), layout_of(p.left), layout_of(p.right), layout_of(p.result),
            std::nullopt};
  cublasLtMatmulPreference_t raw = nullptr;
  RINGBOLT_CUBLAS(cublasLtMatmulPreferenceCreate(&raw));
  const Preference preference(raw);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      static_cast<uint64_t>(Matmul::workspace_bytes()));
  // Parts of the depth are added in f32, not in the result's type.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
      static_cast<uint32_t>(p.left.alignment));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
      static_cast<uint32_t>(p.right.alignment));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
      static_cast<uint32_t>(p.result.alignment));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
      static_cast<uint32_t>(p.result.alignment));
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, plan.descriptor.get(), plan.left.get(), plan.right.get(), plan.result.get(),
      plan.result.get(), preference.get(), 1, &best, &found);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic");
  if (found > 0) plan.algorithm = best.algo;
  return plan;
}

}  // namespace

struct Matmul::State {
  cudaStream_t stream;
  Memory& memory;
  Handle handle;
  Scratch workspace;
  std::map<MatmulProblem, Plan> plans;

  const Plan& plan(const MatmulProblem& problem) {
    const auto found = plans.find(problem);
    if (found != plans.end()) return found->second;
    return plans.emplace(problem, make_plan(handle.get(), problem)).first->second;
  }
};

Matmul::Matmul(cudaStream_t stream, Memory& memory) {
  cublasLtHandle_t handle = nullptr;
  RINGBOLT_CUBLAS(cublasLtCreate(&handle));
  state_ = std::make_unique<State>(
      State{stream, memory, Handle(handle), Scratch(memory, workspace_bytes()), {}});
}
Matmul::~Matmul() = default;

void Matmul::operator()(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b,
                        View c, Update update, std::optional<ConstView> bias) {
  // The epilogue adds a bias of the result's type; any other goes by a kernel of ours.
  const bool fused_bias = bias && bias->dtype() == c.dtype();
  const MatmulProblem problem =
      matmul_problem(a, transpose_a, b, transpose_b, c, update, fused_bias ? bias : std::nullopt);
  if (c.empty()) return;
  const Plan& plan = state_->plan(problem);
  if (!plan.algorithm) {
    simple_matmul(state_->stream, a, transpose_a, b, transpose_b, c, update, bias);
    return;
  }
  std::optional<Scratch> aligned;
  if (fused_bias) {
    const void* pointer = bias->bytes();
    if (reinterpret_cast<uint64_t>(pointer) % kBiasAlignment != 0) {
      aligned.emplace(state_->memory, bias->elements() * size_of(bias->dtype()));
      pointer = aligned->as<void>();
      convert(state_->stream, *bias, View(aligned->as<std::byte>(), bias->dtype(), bias->shape()));
    }
    set(plan.descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointer);
  }
  const float alpha = 1;
  const float beta = update == Update::accumulate ? 1 : 0;
  RINGBOLT_CUBLAS(cublasLtMatmul(state_->handle.get(), plan.descriptor.get(), &alpha, b.bytes(),
                                 plan.left.get(), a.bytes(), plan.right.get(), &beta, c.bytes(),
                                 plan.result.get(), c.bytes(), plan.result.get(), &*plan.algorithm,
                                 state_->workspace.as<void>(),
                                 static_cast<size_t>(workspace_bytes()), state_->stream));
  if (bias && !fused_bias) add_bias(state_->stream, *bias, c);
}

std::string Matmul::library() {
  const size_t version = cublasLtGetVersion();
  return concat("cuBLASLt ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

}  // namespace ringbolt::cuda
