// Attention whose pairs each have a distance and a visibility of their own, in double precision,
// beside an Attention of the program over any placement: what two-part methods and parallel windows
// are compared with.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/model/placement.h"

namespace ringbolt::testing_support {

constexpr int64_t kPairHeads = 4;
constexpr int64_t kPairKeyHeads = 2;
constexpr int64_t kPairDim = 8;

/// What a query at document position m makes of the key at n <= m.
struct PairRule {
  double base;  ///< of the rotary frequencies
  std::function<double(int64_t m, int64_t n)> distance;
  std::function<bool(int64_t m, int64_t n)> sees = [](int64_t, int64_t) { return true; };
  std::function<double(int64_t m)> query_scale = [](int64_t) { return 1.0; };
};

/// Two documents of random tokens, q, k, v and dout (S, heads, D), exact in f32.
struct PairProblem {
  std::vector<int64_t> offsets;
  std::vector<double> q, k, v, dout;
  int64_t tokens() const { return offsets.back(); }
  /// Elements that a comparison of output and gradients of all tokens looks at.
  int64_t elements() const { return tokens() * kPairDim * (2 * kPairHeads + 2 * kPairKeyHeads); }
};
PairProblem random_pair_problem();

struct PairSolution {
  std::vector<double> out, dq, dk, dv;
};
/// One softmax a query over all keys it sees, each at its own distance.
PairSolution solve_pairs(const PairProblem& problem, const PairRule& rule);

struct PairComparison {
  double error = 0;  ///< the largest of output and gradients
  int64_t compared = 0;
};
/// This rank's rows of output and gradients beside the solution. `tables`: the block's rotation of
/// q and k, which an attention that does not rotate needs; its gradients are turned back.
/// Collective.
PairComparison compare_placed(Backend& backend, Placement& placement, const PairProblem& problem,
                              const PairSolution& expected, const RotaryTables& tables = {});

}  // namespace ringbolt::testing_support
