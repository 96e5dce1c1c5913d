#include "rope/base_bound.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>

#include "rope/angle.h"
#include "rope/frequencies.h"

namespace ringbolt {
namespace {

constexpr int64_t kBlock = 256;

/// B(m) for runs of kBlock distances: cos((m0 + k) theta) from the two angles, so that a run costs products only.
class BoundBlocks {
 public:
  explicit BoundBlocks(std::span<const double> frequencies) : frequencies_(frequencies) {
    for (const double theta : frequencies) {
      std::complex<double> turn = 1;
      const std::complex<double> step = std::polar(1.0, theta);
      for (int64_t k = 0; k < kBlock; ++k, turn *= step) {  // 256 products: below 1e-13
        cos_.push_back(turn.real());
        sin_.push_back(turn.imag());
      }
    }
  }

  /// B(first + offset + k), k < kBlock, of which `count` are wanted. The offset need not be whole.
  const std::array<double, kBlock>& at(int64_t first, double offset = 0, int64_t count = kBlock) {
    sums_.fill(0.0);
    const auto wanted = static_cast<size_t>(count);
    for (size_t i = 0; i < frequencies_.size(); ++i) {
      const double angle = rotary_angle(first, frequencies_[i]) + offset * frequencies_[i];
      const double c = std::cos(angle);
      const double s = std::sin(angle);
      const double* cosines = &cos_[i * kBlock];
      const double* sines = &sin_[i * kBlock];
      for (size_t k = 0; k < wanted; ++k) sums_[k] += c * cosines[k] - s * sines[k];
    }
    return sums_;
  }

 private:
  std::span<const double> frequencies_;
  std::vector<double> cos_;
  std::vector<double> sin_;
  std::array<double, kBlock> sums_{};
};

/// A lower bound of B over stretches of kStretch distances, from one evaluation a stretch: a pair that turns little in it
/// is at most theta kStretch / 2 below its cosine in the middle, and any other at least -1. So most stretches are known
/// to have no negative B without a look at their distances.
class StretchBounds {
 public:
  static constexpr int64_t kStretch = 64;

  explicit StretchBounds(std::span<const double> frequencies) : slow_(slow_frequencies(frequencies)), middles_(slow_) {
    slack_ = static_cast<double>(frequencies.size() - slow_.size());
    for (const double turn : slow_) slack_ += turn / 2;  // theta kStretch / 2
    slack_ += 1e-9;                                      // rounding of the sums, many times
  }

  /// body(first distance) for each stretch of [first, first + stretches kStretch) that may hold a negative B, until it
  /// returns false.
  void for_doubtful(int64_t first, int64_t stretches, const std::function<bool(int64_t)>& body) {
    for (int64_t s = 0; s < stretches; s += kBlock) {
      // The middle of stretch j is at first + (j + 1/2) kStretch.
      const auto& sums = middles_.at(s, static_cast<double>(first) / kStretch + 0.5);
      for (int64_t j = 0; j < std::min(kBlock, stretches - s); ++j) {
        if (sums[static_cast<size_t>(j)] < slack_ && !body(first + (s + j) * kStretch)) return;
      }
    }
  }

 private:
  /// Angles of a whole stretch, of the pairs for which the middle says more than -1 does.
  static std::vector<double> slow_frequencies(std::span<const double> frequencies) {
    std::vector<double> slow;
    for (const double theta : frequencies) {
      if (theta * kStretch < 2) slow.push_back(theta * kStretch);
    }
    return slow;
  }

  std::vector<double> slow_;  ///< before middles_, which refers to it
  BoundBlocks middles_;
  double slack_ = 0;
};

/// visit(m) for each m in [first, last] with B(m) < 0, ascending, until it returns false.
void for_negatives(std::span<const double> frequencies, int64_t first, int64_t last,
                   const std::function<bool(int64_t)>& visit) {
  BoundBlocks exact(frequencies);
  const auto look = [&](int64_t begin, int64_t end) {
    for (; begin < end; begin += kBlock) {
      const int64_t count = std::min(kBlock, end - begin);
      const auto& sums = exact.at(begin, 0, count);
      for (int64_t k = 0; k < count; ++k) {
        if (sums[static_cast<size_t>(k)] < 0 && !visit(begin + k)) return false;
      }
    }
    return true;
  };
  constexpr int64_t kStretch = StretchBounds::kStretch;
  const int64_t stretches = (last + 1 - first) / kStretch;
  if (stretches >= 4) {
    bool goes_on = true;
    StretchBounds(frequencies).for_doubtful(first, stretches, [&](int64_t begin) {
      return goes_on = look(begin, begin + kStretch);
    });
    if (!goes_on) return;
    first += stretches * kStretch;
  }
  look(first, last + 1);
}

std::optional<int64_t> first_negative(std::span<const double> frequencies, int64_t first, int64_t last) {
  std::optional<int64_t> found;
  for_negatives(frequencies, first, last, [&](int64_t m) {
    found = m;
    return false;
  });
  return found;
}

/// Whether bases serve a length. Neighbouring bases fail at neighbouring distances, so that is where it looks first.
class Feasibility {
 public:
  Feasibility(int64_t dim, int64_t length) : dim_(dim), length_(length) {}

  bool operator()(double base) {
    const std::vector<double> frequencies = default_frequencies(dim_, base);
    if (similarity_bound(frequencies, failed_at_) < 0) return false;
    const int64_t near = failed_at_ / 128 + 16;
    std::optional<int64_t> negative =
        first_negative(frequencies, std::max<int64_t>(0, failed_at_ - near), std::min(length_, failed_at_ + near));
    if (!negative) negative = first_negative(frequencies, 0, length_);
    if (negative) failed_at_ = *negative;
    return !negative;
  }

 private:
  int64_t dim_;
  int64_t length_;
  int64_t failed_at_ = 0;
};

}  // namespace

double similarity_bound(std::span<const double> frequencies, int64_t distance) {
  double sum = 0;
  for (const double theta : frequencies) sum += std::cos(rotary_angle(distance, theta));
  return sum;
}

std::optional<int64_t> first_negative_distance(std::span<const double> frequencies, int64_t length) {
  return first_negative(frequencies, 0, length);
}

int64_t count_negative_distances(std::span<const double> frequencies, int64_t length) {
  int64_t count = 0;
  for_negatives(frequencies, 0, length, [&](int64_t) {
    ++count;
    return true;
  });
  return count;
}

double first_feasible_base(int64_t dim, int64_t length, double step) {
  constexpr double kFirst = 10;
  Feasibility serves(dim, length);
  double base = kFirst;
  while (!serves(base)) base *= 1 + step;
  return base;
}

BaseBound base_lower_bound(int64_t dim, int64_t length, const std::function<void(double base)>& progress) {
  constexpr double kStep = 1.01;
  constexpr double kTail = 64;
  const double first = first_feasible_base(dim, length);
  Feasibility serves(dim, length);
  double base = first * kTail;
  while (base > first && serves(base)) {
    if (progress) progress(base);
    base /= kStep;
  }
  return {first, std::max(first, base * kStep)};
}

double fitted_base_bound(int64_t length) { return 0.0424 * std::pow(static_cast<double>(length), 1.628); }

}  // namespace ringbolt
