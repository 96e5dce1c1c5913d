// Reference of fp8 attention: E4M3 by the list of its values, and attention over operands and
// weights rounded to them.
#pragma once

#include "tests/support/reference/attention.h"
#include "tests/support/reference/values.h"

namespace ringbolt::reference {

/// The number that a code 0 to 255 stands for; NaN for 127 and 255.
double value_of_code(int code);
/// The value nearest to x, of two as near the one of the even code; 448 with x's sign beyond it.
double round_e4m3(double x);

/// The power of two that brings the largest finite magnitude into (224, 448]; 1 where all are 0.
double e4m3_scale(const Values& x);
/// round_e4m3(x / scale) * scale.
Values rounded_e4m3(const Values& x, double scale);

struct E4m3Attention {
  Values out;  ///< (T, H, D)
  Values lse;  ///< (T, H): of the weights before they are rounded
  /// (T, H, D): how far out may be from that of a kernel that does the same in f32: a weight next
  /// to the middle of two values may be rounded to the other one, and one that is small beside the
  /// largest may be rounded on a finer grid while the largest so far was smaller.
  Values slack;
};
/// q (T, H, D), k and v (Tk, K, D) are rounded already. Weights 2^(logit - c), c being the row's
/// largest logit in units of log2 rounded up to an integer, are rounded to multiples of E4M3 / 256
/// for the product with v, not for their sum. `centres` (Tk, K, D), where given, were taken from
/// the keys before they were rounded: the weight of a key then is rounded beside logits without the
/// part that its centre has in all of them.
E4m3Attention attention_forward_e4m3(SliceList slices, const Values& q, const Values& k,
                                     const Values& v, double scale, const AttentionShape& shape,
                                     const Values* centres = nullptr);
/// Rounds `out` by v's scale, and widens `slack` where that lets another value be the nearest.
void round_output(E4m3Attention& attention, double value_scale);

}  // namespace ringbolt::reference
