// Self-Extend and ReRoPE against a double-precision reference that rotates by the effective
// distance of each pair, on one rank and through ring attention.
#include "rope/two_part.h"

#include <atomic>
#include <cmath>

#include <gtest/gtest.h>

#include "parallel/mesh.h"
#include "parallel/placement.h"
#include "parallel/threads.h"
#include "rope/table.h"
#include "tests/rope/pair_attention.h"

namespace ringbolt {
namespace {

using testing_support::compare_placed;
using testing_support::PairComparison;
using testing_support::PairProblem;
using testing_support::PairRule;
using testing_support::PairSolution;
using testing_support::random_pair_problem;
using testing_support::solve_pairs;

RopeScaling scaling_of(RopeMethod method) {
  RopeScaling s{.method = method};
  s.window = 9;
  s.group = 3;
  s.factor = method == RopeMethod::leaky_rerope ? 4 : 1;
  s.log_scale = LogScale::clipped;
  s.original_length = 16;
  return s;
}

ModelConfig config_of(RopeMethod method) {
  ModelConfig c = model_shape("dim=32,layers=1,heads=4,kv-heads=2");
  c.rope_theta = 100;
  c.rope_scaling = scaling_of(method);
  validate(c);
  return c;
}

TEST(EffectiveDistance, OfSelfExtendIsThePapersExample) {
  // arXiv 2404.12096, appendix: w = 4, g = 2, ten tokens; the last one's distances, and those of
  // token 4.
  RopeScaling s{.method = RopeMethod::self_extend};
  s.window = 4;
  s.group = 2;
  const std::vector<double> expected{0, 1, 2, 3, 4, 4, 5, 5, 6, 6};
  std::vector<double> seen;
  // A decoder's query m and key 0.
  for (int64_t m = 0; m < 10; ++m) seen.push_back(effective_distance(s, m, 0));
  EXPECT_EQ(seen, expected);
  // Of token 4: -4 to 0, 1 to 3, then 4, 4 to its right. A decoder sees what is left of it, so
  // tokens to the right are those for which token 4 is the key.
  for (int64_t n = 0; n <= 4; ++n) EXPECT_EQ(effective_distance(s, 4, n), 4 - n);
  for (int64_t m = 5; m < 8; ++m) EXPECT_EQ(effective_distance(s, m, 4), m - 4);
  EXPECT_EQ(effective_distance(s, 8, 4), 4);
  EXPECT_EQ(effective_distance(s, 9, 4), 4);
}

TEST(EffectiveDistance, OfSelfExtendShiftsByWholeGroupsOfTheWindow) {
  // floor(m / G) + W - floor(W / G) - floor(n / G), as the older released patch has it: W is no
  // multiple of G here, where the newer one's W / G would give fractions.
  RopeScaling s{.method = RopeMethod::self_extend};
  s.window = 9;
  s.group = 4;
  int compared = 0;
  for (int64_t m = 0; m < 60; ++m) {
    for (int64_t n = 0; n <= m; ++n) {
      const int64_t far = m / 4 + 9 - 9 / 4 - n / 4;
      EXPECT_EQ(effective_distance(s, m, n), static_cast<double>(m - n < 9 ? m - n : far))
          << m << ", " << n;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 60 * 61 / 2);
}

TEST(EffectiveDistance, OfReRopeStopsOrLeaks) {
  RopeScaling s{.method = RopeMethod::rerope};
  s.window = 512;
  EXPECT_EQ(effective_distance(s, 5000, 4500), 500);
  EXPECT_EQ(effective_distance(s, 5000, 100), 512);
  s.method = RopeMethod::leaky_rerope;
  s.factor = 16;
  EXPECT_EQ(effective_distance(s, 5000, 4500), 500);
  EXPECT_EQ(effective_distance(s, 5000, 5000 - 512 - 32), 514);
  // As released: the query at (m + W (k - 1)) / k, the key at n / k.
  for (const int64_t n : {0, 17, 4488}) {
    EXPECT_NEAR(effective_distance(s, 5000, n),
                (5000 + 512 * 15.0) / 16 - static_cast<double>(n) / 16, 1e-9)
        << n;
  }
}

TEST(SelfExtend, ReachesAsPublished) { EXPECT_EQ(self_extend_reach(4096, 1024, 5), 16384); }

PairSolution solve(const PairProblem& p, const ModelConfig& config) {
  const RotaryMethod method(config);
  PairRule rule;
  rule.base = config.rope_theta;
  rule.distance = [&](int64_t m, int64_t n) {
    return effective_distance(config.rope_scaling, m, n);
  };
  rule.query_scale = [&](int64_t m) { return method.query_scale(m); };
  return solve_pairs(p, rule);
}

class TwoParts : public testing::TestWithParam<RopeMethod> {};

TEST_P(TwoParts, MatchTheReferenceOnOneDevice) {
  const ModelConfig config = config_of(GetParam());
  const RotaryMethod method(config);
  const PairProblem p = random_pair_problem();
  const auto backend = make_cpu_backend();
  const auto placement = place_for_method(*backend, method, [&](DistanceRange distances) {
    return std::make_unique<WholePlacement>(*backend, distances);
  });
  const PairComparison worst = compare_placed(*backend, *placement, p, solve(p, config));
  EXPECT_LT(worst.error, 2e-5);  // sums of 64 products of magnitude up to 10, in f32
  EXPECT_EQ(worst.compared, p.elements());
}

TEST_P(TwoParts, DifferFromThePlainMethod) {
  const PairProblem p = random_pair_problem();
  const ModelConfig config = config_of(GetParam());
  ModelConfig plain = config;
  plain.rope_scaling.window = 1000;  // beyond the sequence: nothing is far
  const std::vector<double> far = solve(p, config).out;
  const std::vector<double> near = solve(p, plain).out;
  double largest = 0;
  for (size_t i = 0; i < far.size(); ++i) largest = std::max(largest, std::abs(far[i] - near[i]));
  EXPECT_GT(largest, 0.1);
}

TEST_P(TwoParts, MatchTheReferenceThroughTheRing) {
  const ModelConfig config = config_of(GetParam());
  const PairProblem p = random_pair_problem();
  const PairSolution expected = solve(p, config);
  int cases = 0;
  for (const int ranks : {1, 3, 4}) {
    for (const LayoutKind layout :
         {LayoutKind::contiguous, LayoutKind::zigzag, LayoutKind::striped}) {
      std::atomic<int64_t> compared = 0;
      run_thread_ranks(ranks, 60, [&](Communicator& world) {
        const auto backend = make_cpu_backend(1);
        Mesh mesh(world, {.inner = ranks});
        const RotaryMethod method(config);
        const auto placement = place_for_method(*backend, method, [&](DistanceRange distances) {
          return std::make_unique<MeshPlacement>(*backend, mesh, layout, AttentionChoice{},
                                                 distances);
        });
        const PairComparison worst = compare_placed(*backend, *placement, p, expected);
        EXPECT_LT(worst.error, 2e-5) << ranks << " ranks, " << name_of(layout);
        compared += worst.compared;
      });
      EXPECT_EQ(compared, p.elements()) << ranks << " ranks, " << name_of(layout);
      ++cases;
    }
  }
  EXPECT_EQ(cases, 9);
}

INSTANTIATE_TEST_SUITE_P(Methods, TwoParts,
                         testing::Values(RopeMethod::self_extend, RopeMethod::rerope,
                                         RopeMethod::leaky_rerope),
                         [](const auto& method) { return name_of(method.param); });

}  // namespace
}  // namespace ringbolt
