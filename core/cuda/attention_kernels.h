// The attention kernels that are ours: simple ones that take every shape and type, and those that
// carry operands to cuDNN's layouts and results back. A piece is that of
// core/cuda/attention_plan.h. Stream: all are asynchronous on the stream that they are given.
#pragma once

#include <optional>

#include "core/backend/backend.h"
#include "core/cuda/attention_plan.h"
#include "core/cuda/memory.h"

namespace ringbolt::cuda {

struct AttentionInputs {
  ConstView q;  ///< (T, H, D)
  ConstView k;  ///< (Tk, K, D)
  ConstView v;
  float scale;
};

/// Results of `parts` disjoint sets of keys for the rows of a piece, each normalised with its own
/// log-sum-exp.
struct PartialAttention {
  ConstView out;  ///< (parts * batch * rows, H, D) f32, bf16 or e4m3; `rows` is at least the
                  ///< piece's queries
  const float* lse;
  int64_t parts;
  int64_t rows;
  bool lse_by_head;  ///< lse is (parts, batch, H, rows), as cuDNN writes it; else (parts, batch,
                     ///< rows, H)
  const float* scale = nullptr;  ///< of e4m3: on the device, what codes are multiplied by
};

// --- plain attention -----------------------------------------------------------------------------

/// Continues (out, lse) with the piece. Everything is f32 inside; out is f32 or bf16.
void own_attention_forward(cudaStream_t stream, const AttentionPiece& piece,
                           const AttentionInputs& in, View out, View lse);
/// As above with the keys cut into `chunks`, whose results are written apart: out (chunks * batch *
/// queries, H, D) f32 and lse (chunks, batch, queries, H). For few queries over many keys.
void own_attention_chunks(cudaStream_t stream, const AttentionPiece& piece,
                          const AttentionInputs& in, int64_t chunks, View partial_out,
                          float* partial_lse);
/// dq, dk, dv f32 += the piece's share, each in a fixed order of addition.
void own_attention_backward(cudaStream_t stream, const AttentionPiece& piece,
                            const AttentionInputs& in, ConstView dout, ConstView lse,
                            ConstView delta, View dq, View dk, View dv);

// --- to cuDNN and back ---------------------------------------------------------------------------

/// Merges `partial` into the piece's rows of the running (out, lse), in f32, in one pass: out' =
/// sum of out_i e^(lse_i - lse'), lse' = log(sum of e^lse_i), the running pair being one of the
/// terms.
void merge_attention(cudaStream_t stream, const AttentionPiece& piece,
                     const PartialAttention& partial, View out, View lse);
/// See Backend::merge_attention. other_lse is contiguous.
void merge_attention(cudaStream_t stream, ConstView other_out, ConstView other_lse, View out,
                     View lse);
/// The piece's rows of lse (T, H) from stats (batch, H, queries).
void store_stats(cudaStream_t stream, const AttentionPiece& piece, const float* stats, View lse);
/// stats (batch, H, rows) from the piece's rows of lse (T, H). Rows without keys, and those beyond
/// the piece's, get a value so large that e^(logit - lse) is 0.
void load_stats(cudaStream_t stream, const AttentionPiece& piece, ConstView lse, int64_t rows,
                float* stats);

/// cuDNN's backward wants the output, only to form delta = rowsum(dout * out) from it. What we have
/// is delta. This makes an output with that delta: delta / |dout|^2 * dout, the projection of the
/// true one on dout, so never longer than it; its delta is as exact as the true output's, whose
/// rounding it replaces. to (batch * rows, H, D) bf16, zero beyond the piece.
void output_of_delta(cudaStream_t stream, const AttentionPiece& piece, ConstView dout,
                     ConstView delta, int64_t rows, View to);

/// to (batch * rows, N, D) = batch runs of `count` rows of x, `step` rows apart, from `begin`; zero
/// beyond `count`.
void pack_rows(cudaStream_t stream, ConstView x, int64_t begin, int64_t count, int64_t step,
               int64_t batch, int64_t rows, View to);
/// The reverse, adding: runs of rows of `sum` f32 += from (batch * rows, N, D).
void add_rows(cudaStream_t stream, ConstView from, int64_t begin, int64_t count, int64_t step,
              int64_t batch, int64_t rows, View sum);
// --- E4M3 ----------------------------------------------------------------------------------------

/// See Backend::quantize. Two launches: every block's largest value, then codes.
void quantize(cudaStream_t stream, Memory& memory, ConstView x, View codes, View scales,
              std::optional<ConstView> centre);
/// See Backend::column_means.
void column_means(cudaStream_t stream, Memory& memory, ConstView x, View means);
/// See Backend::shift_lse.
void shift_lse(cudaStream_t stream, const E4m3View& q, ConstView centre, float factor, View lse);
/// scales (kFp8Scales, kFp8ScaleStep) f32: what core/cuda/cudnn.h wants of these operands.
void fill_fp8_scales(cudaStream_t stream, const E4m3View& q, const E4m3View& k, const E4m3View& v,
                     float* scales);
/// to (batch * count, N, D) bf16 = batch runs of `count` rows of x, `step` rows apart, from
/// `begin`: exact.
void dequantize_rows(cudaStream_t stream, const E4m3View& x, int64_t begin, int64_t count,
                     int64_t step, int64_t batch, View to);

/// lengths (2 batch) i32 = the piece's queries, `batch` times, then its keys.
void fill_lengths(cudaStream_t stream, const AttentionPiece& piece, int32_t* lengths);

}  // namespace ringbolt::cuda
