// E4M3 on the CPU: codes and scales of operands, and attention over them.
#pragma once

#include <optional>

#include "core/backend/backend.h"
#include "core/cpu/isa.h"

namespace ringbolt::cpu {

class Allocator;
class Progress;
struct RowwiseKernels;

/// See Backend::quantize.
void quantize(ConstView x, View codes, View scales, std::optional<ConstView> centre);
/// See Backend::column_means.
void column_means(ConstView x, View means);
/// See Backend::shift_lse.
void shift_lse(const E4m3View& q, ConstView centre, float factor, View lse);

/// x (T, H, D) f32, contiguous, to the nearest multiples of `scale` by E4M3 values, in place.
void round_to_e4m3(View x, float scale);

/// See Backend::attention_forward_e4m3. Rounded outputs take a copy of out and lse besides the
/// workspace.
void attention_forward_e4m3(SliceList slices, const E4m3View& q, const E4m3View& k,
                            const E4m3View& v, float scale, E4m3Output output, View out, View lse,
                            Isa isa, const RowwiseKernels& kernels, Allocator& allocator,
                            Progress* progress);

}  // namespace ringbolt::cpu
