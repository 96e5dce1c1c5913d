// What the attention kernels of one instruction set do: a piece of work on one thread, given by
// plain pointers.
//
// core/cpu/attention.cpp cuts the work into such pieces. The kernels are one source
// (attention_forward.inl, attention_backward.inl) compiled for each instruction set; see
// core/cpu/simd.h on why only plain data crosses here.
#pragma once

#include <cstdint>

namespace ringbolt::cpu {

enum class Isa;  // core/cpu/isa.h, whose C++ library headers must stay outside of the kernels

/// An AttentionSlice by absolute rows: query i sees keys [max(key_begin, i + left), min(key_end, i
/// + shift)).
struct KernelSlice {
  int64_t query_begin;
  int64_t query_end;
  int64_t key_begin;
  int64_t key_end;
  int64_t shift;
  int64_t left;
};

/// Forward of `rows` queries from row_begin on, for `heads` query heads that share one key/value
/// head. All strides count elements; rows are counted from the start of the sequence, pointers
/// stand at row 0 and the first head of the piece.
struct ForwardPiece {
  const void* q;  // A or E4M3, heads D elements apart
  const void* k;  // A
  const void* v;  // A
  void* out;      // f32 or A, heads D elements apart
  float* lse;     // heads 1 element apart
  int64_t q_stride, k_stride, v_stride, out_stride, lse_stride;
  int64_t row_begin;
  int rows;
  int heads;
  int head_dim;
  bool out_is_bf16;
  float scale;
  float value_scale;          // what v is to be multiplied by, a power of two: 1 unless it is codes
  const KernelSlice* slices;  // in order; only their rows and keys inside the piece count
  int64_t n_slices;
  int64_t key_begin;  // keys outside [key_begin, key_end) are not looked at
  int64_t key_end;
  void (*poll)(void* with);  // called between blocks of keys, where not null; does not throw
  void* poll_with;
  void* scratch;  // forward_scratch_bytes, aligned to 64
};

/// Backward of the keys [key_begin, key_begin + keys) of one key/value head. Kept over begin, tile
/// …, end.
struct BackwardPiece {
  const void* q;     // A
  const void* dout;  // A
  const void* k;     // A
  const void* v;     // A
  const float* lse;
  const float* delta;
  float* dq;
  float* dk;
  float* dv;
  int64_t q_stride, dout_stride, k_stride, v_stride, lse_stride, delta_stride, dq_stride, dk_stride,
      dv_stride;
  int64_t key_begin;
  int keys;
  int head_dim;
  float scale;
  void* scratch;  // backward_scratch_bytes, aligned to 64
};

/// Kernels for one element type of q, k, v and dout; for E4M3 forward only, the others are null.
struct AttentionKernels {
  /// Query rows x heads of a piece, at most.
  int forward_columns;
  int64_t (*forward_scratch_bytes)(int head_dim);
  void (*forward)(const ForwardPiece& piece);

  /// Keys of a piece and query rows of a tile, at most.
  int (*backward_keys)(int head_dim);
  int backward_rows;
  int64_t (*backward_scratch_bytes)(int head_dim);
  void (*backward_begin)(const BackwardPiece& piece);
  /// Rows [row_begin, row_begin + rows) of query head `head` (0 is the first that shares the
  /// key/value head), for the pairs of one slice.
  void (*backward_tile)(const BackwardPiece& piece, int head, int64_t row_begin, int rows,
                        const KernelSlice& slice);
  void (*backward_end)(const BackwardPiece& piece);
};

/// Kernels of one instruction set.
struct AttentionKernelSet {
  AttentionKernels f32;
  AttentionKernels bf16;
  AttentionKernels e4m3;
  /// y[i] = 2^x[i] as the kernels compute it; see core/cpu/simd.h for its error. (For tests.)
  void (*exp2)(const float* x, int64_t n, float* y);
};

/// Requires: this build and this machine have `isa`.
const AttentionKernelSet& attention_kernels(Isa isa);

const AttentionKernelSet& attention_kernels_generic();
const AttentionKernelSet& attention_kernels_avx2();
const AttentionKernelSet& attention_kernels_avx512();
const AttentionKernelSet& attention_kernels_avx512_bf16();

}  // namespace ringbolt::cpu
