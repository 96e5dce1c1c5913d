// fp8 attention over ranks: the numbers of the double-precision reference that rounds each rank's
// rows by their own scales, in every layout and strategy; and as far from attention without
// rounding as one rank is.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/threads.h"
#include "tests/parallel/attention_case.h"
#include "tests/support/compare.h"
#include "tests/support/reference/e4m3.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::Values;
using Mask = AttentionSlice::Mask;

constexpr double kTimeout = 60;

/// x (S, heads, D) rounded, the rows `tokens` and the heads [begin, end) by one scale.
void round_part(Values& x, int64_t heads, int64_t d, const std::vector<int64_t>& tokens,
                int64_t begin, int64_t end) {
  Values part;
  const auto for_part = [&](const auto& body) {
    for (const int64_t t : tokens) {
      if (t < 0) continue;
      for (int64_t i = begin * d; i < end * d; ++i) body(x[static_cast<size_t>(t * heads * d + i)]);
    }
  };
  for_part([&](double value) { part.push_back(value); });
  const Values rounded = reference::rounded_e4m3(part, reference::e4m3_scale(part));
  size_t n = 0;
  for_part([&](double& value) { value = rounded[n++]; });
}

/// What the ranks of a sharing make of the operands.
WholeProblem rounded_on_ranks(WholeProblem p, const Sharing& sharing) {
  const auto [heads, kv_heads, d] = p.heads;
  const MeshShape& mesh = sharing.mesh;
  const SequenceLayout layout(sharing.layout, p.offsets, mesh.ring(), mesh.head);
  std::vector<int64_t> all(static_cast<size_t>(p.tokens()));
  std::iota(all.begin(), all.end(), 0);
  const auto key_parts = std::min<int64_t>(mesh.head, kv_heads);  // more head ranks have copies
  const auto round_keys = [&](const std::vector<int64_t>& tokens) {
    for (int64_t u = 0; u < key_parts; ++u) {
      for (Values* x : {&p.k, &p.v}) {
        round_part(*x, kv_heads, d, tokens, u * kv_heads / key_parts,
                   (u + 1) * kv_heads / key_parts);
      }
    }
  };
  for (int r = 0; r < mesh.ring(); ++r) {
    const std::vector<int64_t> tokens = layout.tokens(r);
    for (int64_t u = 0; u < mesh.head; ++u) {
      round_part(p.q, heads, d, tokens, u * heads / mesh.head, (u + 1) * heads / mesh.head);
    }
    if (sharing.choice.strategy != AttentionStrategy::all_gather) round_keys(tokens);
  }
  if (sharing.choice.strategy == AttentionStrategy::all_gather) round_keys(all);
  return p;
}

std::vector<AttentionSlice> slices_of(const WholeProblem& p) {
  std::vector<AttentionSlice> slices = causal_slices(p.offsets);
  for (AttentionSlice& slice : slices) slice.mask = p.mask;
  return slices;
}

reference::E4m3Attention solve_rounded(const WholeProblem& p) {
  return reference::attention_forward_e4m3(
      slices_of(p), p.q, p.k, p.v, static_cast<double>(attention_scale(p.heads.dim)), p.shape());
}

/// Outputs are below 1 and rounded to p.dtype once.
void expect_within_slack(const WholeProblem& p, const WholeResult& actual,
                         const reference::E4m3Attention& wanted, const std::string& what) {
  ASSERT_EQ(actual.out.size(), wanted.out.size());
  const double error = p.dtype == DType::bf16 ? 0x1p-8 : 2e-6;
  double worst = 0;
  for (size_t i = 0; i < actual.out.size(); ++i) {
    worst = std::max(worst, std::abs(actual.out[i] - wanted.out[i]) - wanted.slack[i]);
  }
  EXPECT_LE(worst, error) << what;
  EXPECT_TRUE(close_to_largest(actual.lse, wanted.lse, 1e-6)) << what;
}

class Fp8OnRanks : public testing::TestWithParam<int> {};

TEST_P(Fp8OnRanks, MatchesTheReferenceThatRoundsEachRanksRows) {
  int compared = 0;
  run_thread_ranks(GetParam(), kTimeout, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    Meshes meshes(world);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const Heads& heads : {Heads{8, 2, 8}, Heads{6, 3, 10}}) {
        WholeProblem p = random_problem({0, 20, 21, 61}, Mask::causal, heads, dtype, 3);
        // Ranks' scales differ: later rows are larger, and one is far larger than all.
        for (size_t i = 0; i < p.v.size(); ++i) p.v[i] *= i < p.v.size() / 3 ? 0.125 : 1;
        for (Sharing sharing : all_sharings(world.size(), heads)) {
          if (sharing.choice.backward == RingBackward::queries) continue;
          sharing.choice.dtype = AttentionDType::fp8;
          const WholeResult actual = solve_on_ranks(*backend, meshes(sharing.mesh), p, sharing);
          if (world.rank() != 0) continue;
          expect_within_slack(p, actual, solve_rounded(rounded_on_ranks(p, sharing)),
                              sharing.str());
          ++compared;
        }
      }
    }
  });
  EXPECT_GE(compared, 12);
}

INSTANTIATE_TEST_SUITE_P(Ranks, Fp8OnRanks, testing::Values(1, 2, 3, 4),
                         testing::PrintToStringParamName());

TEST(Fp8Attention, HasTheErrorOfOneRankOnAnyNumber) {
  // Bounds: tests/core/backend/e4m3_attention_test.cpp.
  const WholeProblem p = random_problem({0, 509}, Mask::causal, {8, 2, 16}, DType::f32, 5);
  const WholeResult exact = solve_whole(p);
  for (const AttentionDType dtype :
       {AttentionDType::bf16, AttentionDType::fp8, AttentionDType::fp8_output}) {
    std::printf("  %s:", name_of(dtype).c_str());
    double alone = 0;
    for (const int ranks : {1, 2, 3, 4, 8}) {
      run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
        const std::unique_ptr<Backend> backend = make_cpu_backend(1);
        Meshes meshes(world);
        for (const LayoutKind layout :
             {LayoutKind::zigzag, LayoutKind::striped, LayoutKind::contiguous}) {
          Sharing sharing{{.inner = ranks}, layout, {}};
          sharing.choice.dtype = dtype;
          const WholeResult actual = solve_on_ranks(*backend, meshes(sharing.mesh), p, sharing);
          if (world.rank() != 0) continue;
          const Errors e =
              errors_of(actual, {exact.out, exact.lse, actual.dq, actual.dk, actual.dv});
          if (ranks == 1) alone = e.out;
          if (layout == LayoutKind::zigzag) std::printf(" %.5f", e.out);
          EXPECT_LE(e.out, dtype == AttentionDType::bf16  ? 0x1p-8
                           : dtype == AttentionDType::fp8 ? 0.06
                                                          : 0.07);
          EXPECT_LE(e.out, 1.05 * alone) << sharing.str();
          EXPECT_GT(e.out, 0.2 * alone) << "nothing was rounded";
        }
      });
    }
    std::puts("");
  }
}

TEST(Fp8Attention, HardlyDependsOnTheDivision) {
  // Scales are powers of two and values normal numbers: rounded alike wherever a sequence is cut.
  // What is left is f32's rounding, and a weight that it carries over the middle of two values now
  // and then: of the norm, hardly anything.
  WholeProblem p = random_problem({0, 509}, Mask::causal, {8, 2, 16}, DType::f32, 6);
  for (Values* x : {&p.q, &p.k, &p.v}) {
    for (double& value : *x) value = std::copysign(std::max(std::abs(value), 0.01), value);
  }
  std::vector<WholeResult> results;
  for (const int ranks : {1, 3, 4}) {
    run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
      const std::unique_ptr<Backend> backend = make_cpu_backend(1);
      Meshes meshes(world);
      Sharing sharing{{.inner = ranks}, LayoutKind::zigzag, {}};
      sharing.choice.dtype = AttentionDType::fp8;
      WholeResult result = solve_on_ranks(*backend, meshes(sharing.mesh), p, sharing);
      if (world.rank() == 0) results.push_back(std::move(result));
    });
  }
  for (const size_t i : {size_t{1}, size_t{2}}) {
    EXPECT_TRUE(close_in_norm(results[i].out, results[0].out, 1e-4));
    EXPECT_TRUE(close_to_largest(results[i].lse, results[0].lse, 1e-6));
  }
}

}  // namespace
}  // namespace ringbolt
