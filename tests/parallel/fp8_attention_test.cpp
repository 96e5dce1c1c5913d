// fp8 attention over ranks: the numbers of the double-precision reference that rounds each rank's
// rows by their own scales, in every layout and strategy; and as far from attention without
// rounding as one rank is.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
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

/// x (S, heads, D) rounded, the rows `tokens` and the heads [begin, end) by one scale; where
/// `centres` is given, around their mean over so many rows, which it takes.
void round_part(Values& x, int64_t heads, int64_t d, const std::vector<int64_t>& tokens,
                int64_t begin, int64_t end, Values* centres = nullptr, int64_t rows = 0) {
  const auto width = static_cast<size_t>((end - begin) * d);
  Values part;
  const auto for_part = [&](Values& of, const auto& body) {
    for (const int64_t t : tokens) {
      if (t < 0) continue;
      for (int64_t i = begin * d; i < end * d; ++i)
        body(of[static_cast<size_t>(t * heads * d + i)]);
    }
  };
  for_part(x, [&](double value) { part.push_back(value); });
  Values mean(width, 0.0);
  if (centres != nullptr) {
    for (size_t i = 0; i < part.size(); ++i) mean[i % width] += part[i] / static_cast<double>(rows);
    for (double& value : mean) value = static_cast<double>(static_cast<float>(value));
  }
  for (size_t i = 0; i < part.size(); ++i)
    part[i] = static_cast<double>(static_cast<float>(part[i] - mean[i % width]));
  const Values rounded = reference::rounded_e4m3(part, reference::e4m3_scale(part));
  size_t n = 0;
  for_part(x, [&](double& value) {
    value = rounded[n] + mean[n % width];
    ++n;
  });
  n = 0;
  if (centres != nullptr) for_part(*centres, [&](double& value) { value = mean[n++ % width]; });
}

/// What the ranks of a sharing make of the operands.
struct Rounded {
  WholeProblem problem;
  Values centres;  ///< (S, K, D)
};
Rounded rounded_on_ranks(WholeProblem p, const Sharing& sharing) {
  Values centres(p.k.size(), 0.0);
  const auto [heads, kv_heads, d] = p.heads;
  const MeshShape& mesh = sharing.mesh;
  const SequenceLayout layout(sharing.layout, p.offsets, mesh.ring(), mesh.head);
  std::vector<int64_t> all(static_cast<size_t>(p.tokens()));
  std::iota(all.begin(), all.end(), 0);
  const auto key_parts = std::min<int64_t>(mesh.head, kv_heads);  // more head ranks have copies
  const auto round_keys = [&](const std::vector<int64_t>& tokens, int64_t rows) {
    for (int64_t u = 0; u < key_parts; ++u) {
      const int64_t begin = u * kv_heads / key_parts;
      const int64_t end = (u + 1) * kv_heads / key_parts;
      round_part(p.k, kv_heads, d, tokens, begin, end, &centres, rows);
      round_part(p.v, kv_heads, d, tokens, begin, end);
    }
  };
  for (int r = 0; r < mesh.ring(); ++r) {
    const std::vector<int64_t> tokens = layout.tokens(r);
    for (int64_t u = 0; u < mesh.head; ++u) {
      round_part(p.q, heads, d, tokens, u * heads / mesh.head, (u + 1) * heads / mesh.head);
    }
    if (sharing.choice.strategy != AttentionStrategy::all_gather) {
      round_keys(tokens,
                 std::count_if(tokens.begin(), tokens.end(), [](int64_t t) { return t >= 0; }));
    }
  }
  if (sharing.choice.strategy == AttentionStrategy::all_gather) {
    round_keys(all, mesh.ring() * layout.tokens_per_rank());  // padding is gathered as zeros
  }
  return {std::move(p), std::move(centres)};
}

std::vector<AttentionSlice> slices_of(const WholeProblem& p) {
  std::vector<AttentionSlice> slices = causal_slices(p.offsets);
  for (AttentionSlice& slice : slices) slice.mask = p.mask;
  return slices;
}

reference::E4m3Attention solve_rounded(const Rounded& rounded) {
  const WholeProblem& p = rounded.problem;
  return reference::attention_forward_e4m3(slices_of(p), p.q, p.k, p.v,
                                           static_cast<double>(attention_scale(p.heads.dim)),
                                           p.shape(), &rounded.centres);
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

TEST(Fp8Attention, IsNoWorseForWhatKeysHaveInCommon) {
  // Rounded with the rest, a common part four times the rest would cost four times the error of
  // logits.
  WholeProblem p = random_problem({0, 509}, Mask::causal, {8, 2, 16}, DType::f32, 6);
  for (size_t i = 0; i < p.k.size(); ++i) p.k[i] += i % 16 < 8 ? 4 : -4;
  const WholeResult exact = solve_whole(p);
  for (const int ranks : {1, 3}) {
    run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
      const std::unique_ptr<Backend> backend = make_cpu_backend(1);
      Meshes meshes(world);
      for (const AttentionStrategy strategy :
           {AttentionStrategy::ring, AttentionStrategy::all_gather}) {
        Sharing sharing{{.inner = ranks}, LayoutKind::zigzag, {strategy, {}}};
        sharing.choice.dtype = AttentionDType::fp8;
        const WholeResult result = solve_on_ranks(*backend, meshes(sharing.mesh), p, sharing);
        if (world.rank() != 0) continue;
        EXPECT_TRUE(close_in_norm(result.out, exact.out, 0.06)) << sharing.str();
      }
    });
  }
}

}  // namespace
}  // namespace ringbolt
