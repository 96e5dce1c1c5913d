// Attention of the CUDA backend: slices become pieces (core/cuda/attention_plan.h), each done by
// cuDNN or by our own kernels, and joined in f32. Contracts are those of core/backend/backend.h;
// backward by cuDNN adds to dq in no fixed order.
#pragma once

#include "core/backend/backend.h"
#include "core/cuda/attention_kernels.h"
#include "core/cuda/cudnn.h"
#include "core/cuda/memory.h"

namespace ringbolt::cuda {

class Attention {
 public:
  /// All must outlive it.
  Attention(cudaStream_t stream, Memory& memory, const DeviceFacts& device)
      : stream_(stream), memory_(memory), device_(device) {}

  void forward(SliceList slices, ConstView q, ConstView k, ConstView v, float scale, View out,
               View lse);
  void forward_e4m3(SliceList slices, const E4m3View& q, const E4m3View& k, const E4m3View& v,
                    float scale, E4m3Output output, View out, View lse);
  void backward(SliceList slices, ConstView q, ConstView k, ConstView v, ConstView dout,
                ConstView lse, ConstView delta, float scale, View dq, View dk, View dv);

 private:
  struct Sums {  ///< f32
    View dq, dk, dv;
  };
  struct E4m3Inputs {
    E4m3View q, k, v;
    float scale;
    E4m3Output output;
  };
  /// run(work, alone, out) for each, `out` being the caller's or, where rows occur twice and that
  /// is bf16, f32 sums that are rounded into it at the end. `alone`: the rows have no other piece
  /// and held nothing before.
  template <class Run>
  void join(const std::vector<AttentionWork>& work, View out, const Run& run);
  void run_forward(const AttentionWork& work, const AttentionInputs& in, bool alone, View out,
                   View lse);
  void forward_by_cudnn(const AttentionWork& work, const AttentionInputs& in, bool alone, View out,
                        View lse);
  void forward_by_chunks(const AttentionPiece& piece, const AttentionInputs& in, int64_t chunks,
                         View out, View lse);
  void forward_e4m3_by_cudnn(const AttentionWork& work, const E4m3Inputs& in, View out, View lse);
  void forward_e4m3_in_bf16(const AttentionPiece& piece, const E4m3Inputs& in, View out, View lse);
  void backward_by_cudnn(const AttentionWork& work, const AttentionInputs& in, ConstView dout,
                         ConstView lse, ConstView delta, const Sums& sums);
  CudnnAttention& cudnn();

  cudaStream_t stream_;
  Memory& memory_;
  DeviceFacts device_;
  std::unique_ptr<CudnnAttention> cudnn_;  ///< made at its first use: f32 models need none
};

}  // namespace ringbolt::cuda
