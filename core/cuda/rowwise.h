// The row-wise operations of the CUDA backend: kernels that call the formulas of core/formulas,
// each reading and writing every element once. Contracts are those of core/backend/backend.h.
// Stream: all are asynchronous on the stream that they are given; their scratch memory is ordered
// on it, too.
#pragma once

#include <optional>

#include "core/backend/backend.h"
#include "core/cuda/memory.h"

namespace ringbolt::cuda {

void convert(cudaStream_t stream, ConstView x, View y);
/// y f32 += x.
void add(cudaStream_t stream, ConstView x, View y);
/// y (T, N) += bias (N), for products whose library call cannot add it.
void add_bias(cudaStream_t stream, ConstView bias, View y);
void rotary(cudaStream_t stream, View x, ConstView cos, ConstView sin, RotaryPairing pairing,
            RotaryDirection direction, std::optional<ConstView> scale);
void rotary_angle_backward(cudaStream_t stream, ConstView x, ConstView dx, RotaryPairing pairing,
                           View dangles);
void swiglu_forward(cudaStream_t stream, ConstView gate_up, View y);
void swiglu_backward(cudaStream_t stream, ConstView dy, View gate_up);
void adamw(cudaStream_t stream, const AdamWStep& step, ConstView gradient, View master, View m,
           View v, View weight);
void begin_attention(cudaStream_t stream, View out, View lse);

void rms_norm_forward(cudaStream_t stream, ConstView x, ConstView weight, float epsilon, View y,
                      View rstd);
/// Deterministic: pieces of rows are cut by their number alone and added in order.
void rms_norm_backward(cudaStream_t stream, Memory& memory, ConstView dy, ConstView x,
                       ConstView weight, ConstView rstd, View dx, View dweight);
void bias_backward(cudaStream_t stream, Memory& memory, ConstView dy, View dbias);
void attention_delta(cudaStream_t stream, ConstView dout, ConstView out, View delta);

void embedding_forward(cudaStream_t stream, ConstView table, ConstView ids, View y);
/// Deterministic: the rows of one id are added in the order of the tokens.
void embedding_backward(cudaStream_t stream, Memory& memory, ConstView dy, ConstView ids,
                        View dtable);

void cross_entropy(cudaStream_t stream, const CrossEntropyViews& views, float gradient_scale);
/// result (one double on the device) = sum of x^2, pieces cut by the elements alone.
void sum_of_squares(cudaStream_t stream, Memory& memory, ConstView x, double* result);

}  // namespace ringbolt::cuda
