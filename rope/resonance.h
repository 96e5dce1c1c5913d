// Resonance RoPE (arXiv 2403.00071, section 4): periods are rounded to whole tokens, after any
// other scaling, so that a pair that completed its period in training meets nothing new beyond it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ringbolt {

/// 2 pi / theta, in tokens; infinite for a pair that does not rotate.
double period_of(double frequency);

/// The nearest whole number of tokens, ties to the even one.
double resonant_period(double period);

/// In place: each frequency becomes 2 pi / resonant_period. Pairs that do not rotate stay.
void make_resonant(std::vector<double>& frequencies);

/// The feature gap: the largest angle by which a position L … length - 1 misses the nearest angle
/// that positions 0 … L
/// - 1 had, in [0, pi] (section 3). It is 0 (but for rounding) for a whole period that fits into L.
double resonance_gap(double frequency, int64_t trained_length, int64_t length);

/// Decimal logarithm of the least common multiple of whole periods: tokens after which all of them
/// together repeat.
double log10_common_period(std::span<const double> whole_periods);

}  // namespace ringbolt
