// p-RoPE (arXiv 2410.06205, section 6): only a share of the pairs rotates, the others carry content
// at every distance.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/rope_scaling.h"

namespace ringbolt {

/// floor(p * dim / 2): the pairs that rotate.
int64_t rotated_pairs(int64_t dim, double share);

/// In place: all but the rotated share get frequency 0. The kept ones have the highest frequencies,
/// or the lowest
/// ("reversed"). A share of 0 is NoPE, of 1 RoPE.
void keep_rotated_share(std::vector<double>& frequencies, double share, RotatedPairs kept);

}  // namespace ringbolt
