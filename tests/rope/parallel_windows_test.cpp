// Parallel context windows against a double-precision reference that rotates by the distance of
// each pair and sums over the pairs that see each other, on one rank and through the strategies of
// many.
#include <atomic>

#include <gtest/gtest.h>

#include "parallel/mesh.h"
#include "parallel/placement.h"
#include "parallel/threads.h"
#include "rope/position_maps.h"
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

constexpr double kBase = 100;
constexpr double kBound = 2e-5;  // sums of at most 64 products of magnitude up to 10, in f32

/// The second document (64 tokens) has three windows, the last one short, and 11 tokens of query;
/// the first (37) two.
const ParallelWindows kWindows{23, 53, true};
/// No query at all in either: windows alone.
const ParallelWindows kNoQuery{10, 1000, false};

PairSolution solve(const PairProblem& p, const ParallelWindows& w) {
  PairRule rule;
  rule.base = kBase;
  rule.sees = [w](int64_t m, int64_t n) { return w.sees(m, n); };
  rule.distance = [w](int64_t m, int64_t n) {
    const auto at = parallel_window_positions(std::vector<int64_t>{m, n}, w);
    return static_cast<double>(at[0] - at[1]);
  };
  return solve_pairs(p, rule);
}

RotaryTables tables_for(Backend& backend, const ParallelWindows& w) {
  ModelConfig c = model_shape("dim=32,layers=1,heads=4,kv-heads=2");
  c.rope_theta = kBase;
  return [&backend, w, c](std::span<const int64_t> positions) {
    return make_rotary_table(backend, RotaryMethod(c), parallel_window_positions(positions, w));
  };
}

TEST(ParallelWindowAttention, MatchesTheReferenceOnOneDevice) {
  const PairProblem p = random_pair_problem();
  const auto backend = make_cpu_backend();
  for (const ParallelWindows& w :
       {kWindows, kNoQuery, ParallelWindows{23, 53, false}, ParallelWindows{64, 0, true}}) {
    WholePlacement placement(*backend, w);
    const PairComparison worst =
        compare_placed(*backend, placement, p, solve(p, w), tables_for(*backend, w));
    EXPECT_LT(worst.error, kBound) << w.window << " x " << w.query_begin;
    EXPECT_EQ(worst.compared, p.elements());
  }
}

TEST(ParallelWindowAttention, MatchesTheReferenceOverRanks) {
  const PairProblem p = random_pair_problem();
  const PairSolution expected = solve(p, kWindows);
  int cases = 0;
  for (const int ranks : {1, 3, 4}) {
    for (const LayoutKind layout :
         {LayoutKind::contiguous, LayoutKind::zigzag, LayoutKind::striped}) {
      for (const AttentionChoice choice :
           {AttentionChoice{}, AttentionChoice{AttentionStrategy::ring, RingBackward::queries},
            AttentionChoice{AttentionStrategy::all_gather}}) {
        std::atomic<int64_t> compared = 0;
        run_thread_ranks(ranks, 60, [&](Communicator& world) {
          const auto backend = make_cpu_backend(1);
          Mesh mesh(world, {.inner = ranks});
          MeshPlacement placement(*backend, mesh, layout, choice, kWindows);
          const PairComparison worst =
              compare_placed(*backend, placement, p, expected, tables_for(*backend, kWindows));
          EXPECT_LT(worst.error, kBound) << ranks << " ranks, " << name_of(layout);
          compared += worst.compared;
        });
        EXPECT_EQ(compared, p.elements()) << ranks << " ranks, " << name_of(layout);
        ++cases;
      }
    }
  }
  EXPECT_EQ(cases, 27);
}

TEST(ParallelWindowAttention, DiffersFromThePlainMethod) {
  const PairProblem p = random_pair_problem();
  const std::vector<double> windows = solve(p, kWindows).out;
  const std::vector<double> plain = solve(p, {1000, 1000, true}).out;
  double largest = 0;
  for (size_t i = 0; i < plain.size(); ++i)
    largest = std::max(largest, std::abs(windows[i] - plain[i]));
  EXPECT_GT(largest, 0.1);
}

}  // namespace
}  // namespace ringbolt
