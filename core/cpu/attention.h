// Attention over slices on the CPU: blocked, never a matrix of queries x keys, sums in f32.
//
// (FlashAttention-2, arXiv 2307.08691; the continuation of a running result by its log-sum-exp is
// that of ring attention, arXiv 2310.01889.) Letters as in core/base/shape.h; query head h reads
// key/value head h / (H / K).
//
// Exactness: products of bf16 inputs are summed in f32. Where the instruction set multiplies bf16,
// the probabilities and, in backward, dS are rounded to bf16 before they enter the second product;
// elsewhere bf16 inputs are widened and nothing is rounded. How work is cut depends on shapes and
// the instruction set alone, and sums have a fixed order: results are bit-equal from run to run and
// for any number of threads.
//
// Memory besides the operands: attention_workspace_bytes, independent of T, which the threads keep
// for the next call. Besides that, for the time of a call: a copy of the slice list by blocks, in
// backward 8 bytes a block of keys and head, and where few queries meet many keys (decoding)
// partial results of at most 2 MB.
#pragma once

#include <cstdint>

#include "core/backend/attention_slice.h"
#include "core/cpu/isa.h"
#include "core/tensor/tensor.h"

namespace ringbolt::cpu {

class Progress;  // core/cpu/progress.h, which needs OpenMP

/// What E4M3 codes are to be multiplied by: powers of two.
struct CodeScales {
  float logits = 1;  ///< products of q's and k's codes
  float values = 1;  ///< v's codes
};

/// Merges attention over the slices' keys into (out, lse); see Backend::attention_forward and, for
/// E4M3, Backend::attention_forward_e4m3 without rounding of the output.
/// q (T, H, D), k and v (Tk, K, D) of one dtype, f32, bf16 or e4m3; out (T, H, D) f32 or bf16; lse
/// (T, H) f32, natural logarithm. A bf16 out is only written, so lse must be -inf for its rows.
/// Rows that see no key in the slices keep their out and lse. Requires: D even and at most 256, K
/// divides H, scale > 0, slices inside the shapes. `progress`, where given, is polled about once a
/// block of keys.
void attention_forward(SliceList slices, ConstView q, ConstView k, ConstView v, float scale,
                       View out, View lse, Isa isa, Progress* progress = nullptr,
                       const CodeScales& codes = {});

/// dq (T, H, D), dk and dv (Tk, K, D), all f32, += the slices' share; see
/// Backend::attention_backward. dout (T, H, D) has the dtype of q, k and v; lse and delta (T, H)
/// f32 belong to the merged output. Rows with lse = -inf contribute nothing.
void attention_backward(SliceList slices, ConstView q, ConstView k, ConstView v, ConstView dout,
                        ConstView lse, ConstView delta, float scale, View dq, View dk, View dv,
                        Isa isa, Progress* progress = nullptr);

/// The most that either direction holds besides its operands on `threads` threads.
int64_t attention_workspace_bytes(int64_t head_dim, DType dtype, int threads, Isa isa);

}  // namespace ringbolt::cpu
