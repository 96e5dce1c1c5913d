// How a pair's angles are distributed over a context, and how far that is from what it saw in
// training (DPRoPE, arXiv 2410.01490, section 3).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ringbolt {

constexpr int64_t kAngleBins = 360;

/// How many of positions 0 … length - 1 turn by an angle within each of `bins` equal parts of [0, 2
/// pi).
std::vector<double> angle_counts(double frequency, int64_t length, int64_t bins = kAngleBins);

/// Disturbance of one pair: KL(trained ‖ extended) = sum over bins of F ln(F / F'), F the share of
/// the trained positions in a bin and F' that of the extended ones, 2^-14 added to each count. (Eq.
/// 8 prints the other direction, with which its published values cannot be had; this is what its
/// code computes, summed over bins.)
double angle_disturbance(double trained_frequency, int64_t trained_length,
                         double extended_frequency, int64_t extended_length,
                         int64_t bins = kAngleBins);

/// The same for each pair of two schedules.
std::vector<double> angle_disturbances(std::span<const double> trained, int64_t trained_length,
                                       std::span<const double> extended, int64_t extended_length,
                                       int64_t bins = kAngleBins);

}  // namespace ringbolt
