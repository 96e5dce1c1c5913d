// The functions of cuBLASLt that core/cuda/cublas.cpp calls, by plain loops with f32 sums.
//
// Column-major, as the library is. It refuses what cuBLASLt's documentation of cublasLtMatmul
// does: shapes that do not go together, strides shorter than a column, types other than bf16 or f32
// of both inputs with that or f32 as result, a bias of another type than the result's, pointers
// less aligned than the preference promised, an algorithm that was found for another problem. It
// has no algorithm for operands that are not aligned to 4 bytes, so that what stands in for it is
// tested.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "core/base/bf16.h"
#include "tests/support/emulated_cuda/device.h"

namespace {

using ringbolt::emulated_cuda::Device;
using ringbolt::emulated_cuda::fail;

struct Descriptor {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t transpose_a = CUBLAS_OP_N;
  cublasOperation_t transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  cudaDataType_t bias_type = CUDA_R_8I;  // none chosen: the result's
  const void* bias = nullptr;
};

struct Layout {
  cudaDataType_t type;
  uint64_t rows, columns;
  int64_t stride;

  size_t element_bytes() const { return type == CUDA_R_16BF ? 2 : 4; }
  size_t bytes() const {
    return ((columns - 1) * static_cast<size_t>(stride) + rows) * element_bytes();
  }
  bool is_valid() const {
    return (type == CUDA_R_16BF || type == CUDA_R_32F) && rows > 0 && columns > 0 &&
           static_cast<uint64_t>(stride) >= rows;
  }
};

struct Preference {
  uint64_t workspace_bytes = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::array<uint32_t, 4> alignment = {256, 256, 256, 256};  // A, B, C, D
};

/// What an algorithm was found for; lies in cublasLtMatmulAlgo_t.
struct Found {
  uint64_t problem;
  uint64_t workspace_bytes;
  std::array<uint32_t, 4> alignment;
};
static_assert(sizeof(Found) <= sizeof(cublasLtMatmulAlgo_t));

template <class T, class Handle>
T& as(Handle handle) {
  return *reinterpret_cast<T*>(
      const_cast<std::remove_const_t<std::remove_pointer_t<Handle>>*>(handle));
}

uint64_t fingerprint(const Descriptor& d, std::initializer_list<Layout> layouts) {
  uint64_t hash = 1469598103934665603U;
  const auto mix = [&](uint64_t x) { hash = (hash ^ x) * 1099511628211U; };
  mix(d.transpose_a);
  mix(d.transpose_b);
  mix(d.epilogue);
  for (const Layout& l : layouts) {
    mix(l.type);
    mix(l.rows);
    mix(l.columns);
    mix(static_cast<uint64_t>(l.stride));
  }
  return hash;
}

bool is_supported(const Descriptor& d, const Layout& a, const Layout& b, const Layout& c,
                  const Layout& result) {
  if (!a.is_valid() || !b.is_valid() || !c.is_valid() || !result.is_valid()) return false;
  if (d.compute != CUBLAS_COMPUTE_32F || d.scale != CUDA_R_32F) return false;
  if (a.type != b.type || c.type != result.type) return false;
  if (result.type != a.type && result.type != CUDA_R_32F) return false;
  if (d.epilogue != CUBLASLT_EPILOGUE_DEFAULT && d.epilogue != CUBLASLT_EPILOGUE_BIAS) return false;
  if (d.epilogue == CUBLASLT_EPILOGUE_BIAS && d.bias_type != CUDA_R_8I &&
      d.bias_type != result.type)
    return false;
  const bool ta = d.transpose_a != CUBLAS_OP_N;
  const bool tb = d.transpose_b != CUBLAS_OP_N;
  return (ta ? a.columns : a.rows) == result.rows && (tb ? b.rows : b.columns) == result.columns &&
         (ta ? a.rows : a.columns) == (tb ? b.columns : b.rows) && c.rows == result.rows &&
         c.columns == result.columns;
}

float element(const void* data, cudaDataType_t type, size_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[i];
  return ringbolt::to_float(static_cast<const ringbolt::bf16*>(data)[i]);
}
void put(void* data, cudaDataType_t type, size_t i, float x) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[i] = x;
  } else {
    static_cast<ringbolt::bf16*>(data)[i] = ringbolt::to_bf16(x);
  }
}

/// Vectors of the inner dimension, one after the other: rows of op(A), or columns of op(B).
std::vector<float> vectors_of(const void* data, const Layout& x, bool along_columns) {
  std::vector<float> out(x.rows * x.columns);
  for (size_t j = 0; j < x.columns; ++j) {
    for (size_t i = 0; i < x.rows; ++i) {
      out[along_columns ? j * x.rows + i : i * x.columns + j] =
          element(data, x.type, j * static_cast<size_t>(x.stride) + i);
    }
  }
  return out;
}

// Its operands are our own vectors; a check for each element would cost most of a test's time.
__attribute__((no_sanitize("address", "undefined"))) float dot(const float* a, const float* b,
                                                               size_t n) {
  std::array<float, 16> sums{};
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (size_t j = 0; j < 16; ++j) sums[j] += a[i + j] * b[i + j];
  }
  float total = 0;
  for (; i < n; ++i) total += a[i] * b[i];
  for (float sum : sums) total += sum;
  return total;
}

struct Product {
  Descriptor d;
  Layout a, b, c, result;
  float alpha, beta;
  const void* left;
  const void* right;
  const void* addend;
  void* to;

  void run() const {
    Device& device = Device::get();
    device.require_device(left, a.bytes(), "cublasLtMatmul");
    device.require_device(right, b.bytes(), "cublasLtMatmul");
    device.require_device(to, result.bytes(), "cublasLtMatmul");
    if (beta != 0) device.require_device(addend, c.bytes(), "cublasLtMatmul");
    const bool biased = d.epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (biased)
      device.require_device(d.bias, result.rows * result.element_bytes(), "a bias of a product");
    const std::vector<float> rows = vectors_of(left, a, d.transpose_a != CUBLAS_OP_N);
    const std::vector<float> columns = vectors_of(right, b, d.transpose_b == CUBLAS_OP_N);
    const size_t inner = rows.size() / result.rows;
    for (size_t j = 0; j < result.columns; ++j) {
      for (size_t i = 0; i < result.rows; ++i) {
        float sum = alpha * dot(rows.data() + i * inner, columns.data() + j * inner, inner);
        if (beta != 0) sum += beta * element(addend, c.type, j * static_cast<size_t>(c.stride) + i);
        if (biased) sum += element(d.bias, result.type, i);
        put(to, result.type, j * static_cast<size_t>(result.stride) + i, sum);
      }
    }
  }
};

bool is_aligned(const void* pointer, uint32_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return 0; }
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                               : "CUBLAS_STATUS_INVALID_VALUE";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* d, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *d = reinterpret_cast<cublasLtMatmulDesc_t>(new Descriptor{compute, scale});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
  delete &as<Descriptor>(d);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  Descriptor& d = as<Descriptor>(handle);
  const auto take = [&](auto& member) {
    if (bytes != sizeof(member)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&member, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(d.transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(d.transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(d.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return take(d.bias_type);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(d.bias);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns, stride});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete &as<Layout>(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete &as<Preference>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  Preference& p = as<Preference>(handle);
  const auto take = [&](auto& member) {
    if (bytes != sizeof(member)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&member, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(p.workspace_bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(p.reductions);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return take(p.alignment[0]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return take(p.alignment[1]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return take(p.alignment[2]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(p.alignment[3]);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t result,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* found) {
  const Descriptor& d = as<Descriptor>(descriptor);
  const Preference& p = as<Preference>(preference);
  *found = 0;
  if (!is_supported(d, as<Layout>(a), as<Layout>(b), as<Layout>(c), as<Layout>(result)))
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool aligned = std::all_of(p.alignment.begin(), p.alignment.end(),
                                   [](uint32_t bytes) { return bytes % 4 == 0; });
  if (!aligned || wanted < 1) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (as<Layout>(result).type == CUDA_R_16BF &&
      (p.reductions & ~uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}) != 0)
    fail("cublasLtMatmul may add parts of a depth in bf16");
  const Found algorithm{
      fingerprint(d, {as<Layout>(a), as<Layout>(b), as<Layout>(c), as<Layout>(result)}),
      p.workspace_bytes, p.alignment};
  results[0] = {};
  std::memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
  results[0].workspaceSize = p.workspace_bytes;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t descriptor, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t layout_a, const void* b,
                              cublasLtMatrixLayout_t layout_b, const void* beta, const void* c,
                              cublasLtMatrixLayout_t layout_c, void* d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  const Product product{as<Descriptor>(descriptor),
                        as<Layout>(layout_a),
                        as<Layout>(layout_b),
                        as<Layout>(layout_c),
                        as<Layout>(layout_d),
                        *static_cast<const float*>(alpha),
                        *static_cast<const float*>(beta),
                        a,
                        b,
                        c,
                        d};
  Found found{};
  std::memcpy(&found, algo, sizeof(found));
  if (!is_supported(product.d, product.a, product.b, product.c, product.result) ||
      found.problem != fingerprint(product.d, {product.a, product.b, product.c, product.result}))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_aligned(a, found.alignment[0]) || !is_aligned(b, found.alignment[1]) ||
      !is_aligned(c, found.alignment[2]) || !is_aligned(d, found.alignment[3]))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace_bytes < found.workspace_bytes || !is_aligned(workspace, 256))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (product.d.epilogue == CUBLASLT_EPILOGUE_BIAS) {
    if (product.d.bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
    if (!is_aligned(product.d.bias, 16)) fail("cublasLtMatmul may load 16 bytes of a bias at once");
  }
  const cudaError_t status = Device::get().enqueue(stream, "cublasLtMatmul", [=] {
    Device::get().require_device(workspace, workspace_bytes, "the workspace of cublasLtMatmul");
    std::memset(workspace, 0xff, std::min<size_t>(workspace_bytes, 4096));
    product.run();
  });
  return status == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
