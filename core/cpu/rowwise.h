// The row-wise operations of the CPU backend: rows spread over threads, each by the kernels of one
// instruction set. Contracts are those of core/backend/backend.h.
#pragma once

#include <optional>

#include "core/backend/backend.h"
#include "core/cpu/rowwise_kernels.h"

namespace ringbolt::cpu {

void fill_zero(View x);
void convert(const RowwiseKernels& kernels, ConstView x, View y);
void add(const RowwiseKernels& kernels, ConstView x, View y);
void bias_backward(const RowwiseKernels& kernels, ConstView dy, View dbias);
void embedding_forward(ConstView table, ConstView ids, View y);
void embedding_backward(const RowwiseKernels& kernels, ConstView dy, ConstView ids, View dtable);
void rms_norm_forward(const RowwiseKernels& kernels, ConstView x, ConstView weight, float epsilon,
                      View y, View rstd);
void rms_norm_backward(const RowwiseKernels& kernels, ConstView dy, ConstView x, ConstView weight,
                       ConstView rstd, View dx, View dweight);
void rotary(const RowwiseKernels& kernels, View x, ConstView cos, ConstView sin,
            RotaryPairing pairing, RotaryDirection direction, std::optional<ConstView> scale);
void rotary_angle_backward(const RowwiseKernels& kernels, ConstView x, ConstView dx,
                           RotaryPairing pairing, View dangles);
void swiglu_forward(const RowwiseKernels& kernels, ConstView gate_up, View y);
void swiglu_backward(const RowwiseKernels& kernels, ConstView dy, View gate_up);
void cross_entropy(const RowwiseKernels& kernels, const CrossEntropyViews& views,
                   float gradient_scale);
void begin_attention(View out, View lse);
void merge_attention(const RowwiseKernels& kernels, ConstView other_out, ConstView other_lse,
                     View out, View lse);
void attention_delta(const RowwiseKernels& kernels, ConstView dout, ConstView out, View delta);
double sum_of_squares(const RowwiseKernels& kernels, ConstView x);
void adamw(const RowwiseKernels& kernels, const AdamWStep& step, ConstView gradient, View master,
           View m, View v, View weight);

}  // namespace ringbolt::cpu
