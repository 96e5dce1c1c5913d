// Matrix products by cuBLASLt: bf16 or f32 inputs, f32 accumulation (never TF32), bias and
// accumulation in the epilogue. The first call of a shape asks the library for its best algorithm,
// which is then kept.
#pragma once

#include <memory>
#include <optional>

#include "core/backend/backend.h"
#include "core/cuda/memory.h"

namespace ringbolt::cuda {

class Matmul {
 public:
  /// `memory` and `stream` must outlive it. Holds workspace_bytes() of the device.
  Matmul(cudaStream_t stream, Memory& memory);
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;
  ~Matmul();

  /// See Backend::matmul. Stream: asynchronous on the constructor's.
  void operator()(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b, View c,
                  Update update, std::optional<ConstView> bias);

  static constexpr int64_t workspace_bytes() { return int64_t{32} << 20; }
  /// "cuBLASLt 13.1.0"
  static std::string library();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// c = [c +] op(a) op(b) [+ bias] in f32, rounded once, by a plain kernel: for strides and
/// alignments that the library does not take.
void simple_matmul(cudaStream_t stream, ConstView a, Transpose transpose_a, ConstView b,
                   Transpose transpose_b, View c, Update update, std::optional<ConstView> bias);

}  // namespace ringbolt::cuda
