#include "rope/base_bound.h"

#include <algorithm>
#include <cmath>
#include <complex>

#include "rope/angle.h"
#include "rope/frequencies.h"

namespace ringbolt {
namespace {

/// B(m) for runs of distances: cos((m0 + k) theta) from the two angles, so that a run costs
/// products only.
class BoundRuns {
 public:
  /// At most 256: so many products are exact to 1e-13.
  BoundRuns(std::span<const double> frequencies, int64_t run)
      : frequencies_(frequencies),
        run_(run),
        cos_(frequencies.size() * static_cast<size_t>(run)),
        sin_(cos_.size()),
        sums_(static_cast<size_t>(run)) {
    for (size_t i = 0, at = 0; i < frequencies.size(); ++i) {
      std::complex<double> turn = 1;
      const std::complex<double> step = std::polar(1.0, frequencies[i]);
      for (int64_t k = 0; k < run; ++k, ++at, turn *= step) {
        cos_[at] = turn.real();
        sin_[at] = turn.imag();
      }
    }
  }

  int64_t run() const { return run_; }
  /// B(first + offset + k), k < run(), of which `count` are wanted. The offset need not be whole.
  const std::vector<double>& at(int64_t first, double offset, int64_t count) {
    std::fill(sums_.begin(), sums_.end(), 0.0);
    const auto run = static_cast<size_t>(run_);
    const auto wanted = static_cast<size_t>(count);
    for (size_t i = 0; i < frequencies_.size(); ++i) {
      const double angle = rotary_angle(first, frequencies_[i]) + offset * frequencies_[i];
      const double c = std::cos(angle);
      const double s = std::sin(angle);
      const double* cosines = &cos_[i * run];
      const double* sines = &sin_[i * run];
      for (size_t k = 0; k < wanted; ++k) sums_[k] += c * cosines[k] - s * sines[k];
    }
    return sums_;
  }

 private:
  std::span<const double> frequencies_;
  int64_t run_;
  std::vector<double> cos_;
  std::vector<double> sin_;
  std::vector<double> sums_;
};

/// A lower bound of B over stretches of kStretch distances, from one evaluation a stretch: a pair
/// that turns little in it is at most theta kStretch / 2 below its cosine in the middle, and any
/// other at least -1. So most stretches are known to have no negative B without a look at their
/// distances.
class StretchBounds {
 public:
  static constexpr int64_t kStretch = 64;

  /// For about so many stretches.
  StretchBounds(std::span<const double> frequencies, int64_t stretches)
      : slow_(slow_frequencies(frequencies)), middles_(slow_, stretches > 4096 ? 256 : 32) {
    slack_ = static_cast<double>(frequencies.size() - slow_.size());
    for (const double turn : slow_) slack_ += turn / 2;  // theta kStretch / 2
    slack_ += 1e-9;                                      // rounding of the sums, many times
  }

  /// body(first distance, bound) for each stretch of [first, first + stretches kStretch) that may
  /// hold a negative B, until it returns false.
  void for_doubtful(int64_t first, int64_t stretches,
                    const std::function<bool(int64_t, double)>& body) {
    for (int64_t s = 0; s < stretches; s += middles_.run()) {
      // The middle of stretch j is at first + (j + 1/2) kStretch.
      const int64_t count = std::min(middles_.run(), stretches - s);
      const auto& sums = middles_.at(s, static_cast<double>(first) / kStretch + 0.5, count);
      for (int64_t j = 0; j < count; ++j) {
        const double bound = sums[static_cast<size_t>(j)] - slack_;
        if (bound < 0 && !body(first + (s + j) * kStretch, bound)) return;
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
  BoundRuns middles_;
  double slack_ = 0;
};

constexpr int64_t kStretch = StretchBounds::kStretch;

/// Looks at distances one by one.
class Distances {
 public:
  explicit Distances(std::span<const double> frequencies) : exact_(frequencies, kStretch) {}

  /// visit(m) for each m in [begin, end) with B(m) < 0, ascending; false where it returned false.
  bool for_negatives(int64_t begin, int64_t end, const std::function<bool(int64_t)>& visit) {
    for (; begin < end; begin += kStretch) {
      const int64_t count = std::min(kStretch, end - begin);
      const auto& sums = exact_.at(begin, 0, count);
      for (int64_t k = 0; k < count; ++k) {
        if (sums[static_cast<size_t>(k)] < 0 && !visit(begin + k)) return false;
      }
    }
    return true;
  }

 private:
  BoundRuns exact_;
};

/// visit(m) for each m in [0, last] with B(m) < 0, ascending, until it returns false.
void for_negatives(std::span<const double> frequencies, int64_t last,
                   const std::function<bool(int64_t)>& visit) {
  Distances distances(frequencies);
  const int64_t stretches = (last + 1) / kStretch;
  bool goes_on = true;
  StretchBounds(frequencies, stretches).for_doubtful(0, stretches, [&](int64_t begin, double) {
    return goes_on = distances.for_negatives(begin, begin + kStretch, visit);
  });
  if (goes_on) distances.for_negatives(stretches * kStretch, last + 1, visit);
}

/// Some m in [first, last] with B(m) < 0, if there is one. Looks first where the bound is lowest.
std::optional<int64_t> some_negative(std::span<const double> frequencies, int64_t first,
                                     int64_t last) {
  struct Doubt {
    double bound;
    int64_t begin;
    bool operator<(const Doubt& other) const { return bound < other.bound; }
  };
  std::vector<Doubt> doubts;
  const int64_t stretches = (last + 1 - first) / kStretch;
  StretchBounds(frequencies, stretches)
      .for_doubtful(first, stretches, [&](int64_t begin, double bound) {
        doubts.push_back({bound, begin});
        return true;
      });
  std::sort(doubts.begin(), doubts.end());
  Distances distances(frequencies);
  std::optional<int64_t> found;
  const auto look = [&](int64_t begin, int64_t end) {
    return distances.for_negatives(begin, end, [&](int64_t m) {
      found = m;
      return false;
    });
  };
  for (const Doubt& doubt : doubts) {
    if (!look(doubt.begin, doubt.begin + kStretch)) return found;
  }
  look(first + stretches * kStretch, last + 1);
  return found;
}

/// Whether bases serve a length. Neighbouring bases fail at neighbouring distances, so that is
/// where it looks first.
class Feasibility {
 public:
  Feasibility(int64_t dim, int64_t length) : dim_(dim), length_(length) {}

  bool operator()(double base) {
    const std::vector<double> frequencies = default_frequencies(dim_, base);
    if (similarity_bound(frequencies, failed_at_) < 0) return false;
    const int64_t near = failed_at_ / 128 + 16;
    std::optional<int64_t> negative = some_negative(
        frequencies, std::max<int64_t>(0, failed_at_ - near), std::min(length_, failed_at_ + near));
    if (!negative) negative = some_negative(frequencies, 0, length_);
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

std::optional<int64_t> first_negative_distance(std::span<const double> frequencies,
                                               int64_t length) {
  std::optional<int64_t> found;
  for_negatives(frequencies, length, [&](int64_t m) {
    found = m;
    return false;
  });
  return found;
}

int64_t count_negative_distances(std::span<const double> frequencies, int64_t length) {
  int64_t count = 0;
  for_negatives(frequencies, length, [&](int64_t) {
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

BaseBound base_lower_bound(int64_t dim, int64_t length,
                           const std::function<void(double base)>& progress) {
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

double fitted_base_bound(int64_t length) {
  return 0.0424 * std::pow(static_cast<double>(length), 1.628);
}

}  // namespace ringbolt
