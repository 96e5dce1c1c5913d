// Attention over ranks against the double-precision reference over the whole sequence: every mesh,
// layout, strategy and mask gives the same numbers.
#include "parallel/distributed_attention.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/threads.h"
#include "tests/parallel/attention_case.h"
#include "tests/support/random_values.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using Mask = AttentionSlice::Mask;
using Offsets = std::vector<int64_t>;

constexpr double kTimeout = 60;
class EveryWay : public testing::TestWithParam<int> {};

TEST_P(EveryWay, MatchesTheWholeSequence) {
  int64_t cases = 0;
  run_thread_ranks(GetParam(), kTimeout, [&](Communicator& world) {
    const int64_t compared = expect_whole_sequence_every_way(world);
    if (world.rank() == 0) cases = compared;
  });
  EXPECT_GT(cases, 100);
}

INSTANTIATE_TEST_SUITE_P(Ranks, EveryWay, testing::Values(1, 2, 3, 4, 8),
                         testing::PrintToStringParamName());

/// Ways to share work between P ranks whose errors are compared over P.
std::vector<std::pair<std::string, Sharing>> representative(int ranks) {
  std::vector<std::pair<std::string, Sharing>> ways;
  const MeshShape ring{.inner = ranks};
  ways.push_back({"ring", {ring, LayoutKind::zigzag, {}}});
  ways.push_back({"ring striped", {ring, LayoutKind::striped, {}}});
  ways.push_back({"ring queries",
                  {ring, LayoutKind::zigzag, {AttentionStrategy::ring, RingBackward::queries}}});
  ways.push_back({"all_gather", {ring, LayoutKind::zigzag, {AttentionStrategy::all_gather, {}}}});
  if (ranks % 2 != 0 && ranks > 1) return ways;
  const MeshShape two{.outer = ranks > 1 ? 2 : 1, .inner = ranks > 1 ? ranks / 2 : 1};
  ways.push_back({"double_ring", {two, LayoutKind::zigzag, {AttentionStrategy::double_ring, {}}}});
  const MeshShape hybrid{.inner = (ranks + 1) / 2, .head = ranks > 1 ? 2 : 1};
  ways.push_back({"ring x 2 heads", {hybrid, LayoutKind::zigzag, {}}});
  ways.push_back({"heads", {{.head = ranks}, LayoutKind::zigzag, {}}});
  return ways;
}

TEST(DistributedAttention, ErrorDoesNotGrowWithTheRing) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const WholeProblem problem = random_problem({0, 1021}, Mask::causal, {8, 2, 16}, dtype, 77);
    const WholeResult expected = solve_whole(problem);
    std::map<std::string, std::map<int, Errors>> errors;
    const std::vector<int> sizes{1, 2, 3, 4, 8};
    for (const int ranks : sizes) {
      run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
        const std::unique_ptr<Backend> backend = make_cpu_backend(1);
        Meshes meshes(world);
        for (const auto& [name, sharing] : representative(ranks)) {
          const WholeResult actual =
              solve_on_ranks(*backend, meshes(sharing.mesh), problem, sharing);
          if (world.rank() == 0) errors[name][ranks] = errors_of(actual, expected);
        }
      });
    }
    std::printf("  %s, S 1021, H 8, K 2, D 16, causal: the worst of out, lse, dq, dk, dv\n  %-16s",
                name_of(dtype).c_str(), "P");
    for (const int ranks : sizes) std::printf(" %9d", ranks);
    for (auto& [name, of] : errors) {
      std::printf("\n  %-16s", name.c_str());
      for (const int ranks : sizes) {
        if (of.count(ranks) == 0) {
          std::printf(" %9s", "-");
          continue;
        }
        std::printf(" %9.2e", of[ranks].worst());
        EXPECT_LE(of[ranks].worst(), attention_bound(dtype)) << name << ", P " << ranks;
        // Cut elsewhere, the same sums are rounded otherwise: half more, and one rounding.
        EXPECT_LE(of[ranks].worst(),
                  1.5 * of[1].worst() + (dtype == DType::f32 ? 0x1p-24 : 0x1p-10))
            << name << ", P " << ranks;
      }
    }
    std::puts("");
  }
}

/// Solves `problem` on 2, 3, 4 and 8 ranks in every way.
void expect_right(const std::string& what, const WholeProblem& problem, double most,
                  double least = 0) {
  for (const int ranks : {2, 3, 4, 8}) {
    run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
      expect_every_way(world, what, problem, most, least);
    });
  }
}

constexpr Heads kHeads{4, 2, 16};  // the factor on logits is 1/4

TEST(DistributedAttention, IsRightWhereLogSumExpIsFarFromZero) {
  // Every key's first element is 1, and a query's puts +80 or -100 on all its logits in turn: a
  // logit of 100 is known to 100 * 2^-24 in f32, and so are weights.
  for (const DType dtype : {DType::f32, DType::bf16}) {
    WholeProblem p = random_problem({0, 67}, Mask::causal, kHeads, dtype, 5);
    const auto dim = static_cast<size_t>(kHeads.dim);
    for (size_t i = 0; i < p.k.size(); i += dim) p.k[i] = 1;
    for (size_t i = 0; i < p.q.size(); i += dim) p.q[i] = i / dim % 3 == 0 ? -400 : 320;
    const reference::Values lse = solve_whole(p).lse;
    EXPECT_LT(*std::min_element(lse.begin(), lse.end()), -97);
    EXPECT_GT(*std::max_element(lse.begin(), lse.end()), 80);
    expect_right("far logits", p, attention_bound(dtype) + 100 * 0x1p-23);
  }
}

TEST(DistributedAttention, IsRightForIdenticalKeys) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    WholeProblem p = random_problem({0, 67}, Mask::causal, kHeads, dtype, 6);
    const auto row = static_cast<std::ptrdiff_t>(kHeads.key * kHeads.dim);
    for (auto k = p.k.begin() + row; k != p.k.end(); k += row) std::copy_n(p.k.begin(), row, k);
    // dq is a sum of equal vectors whose weights cancel: compared with entries of a tenth.
    expect_right("identical keys", p, attention_bound(dtype), 0.1);
  }
}

TEST(DistributedAttention, IsRightForDocumentsOfOneToken) {
  Offsets offsets(42);
  std::iota(offsets.begin(), offsets.end(), 0);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    // The only weight is 1 and nothing depends on q and k.
    expect_right("one token", random_problem(offsets, Mask::causal, kHeads, dtype, 7),
                 attention_bound(dtype), 0.1);
  }
}

TEST(DistributedAttention, IsRightForADocumentOverEveryRankBoundary) {
  // 48 tokens: boundaries of 2, 3, 4 and 8 contiguous ranks are multiples of 6.
  for (const DType dtype : {DType::f32, DType::bf16}) {
    expect_right(
        "straddling",
        random_problem({0, 3, 9, 15, 21, 22, 26, 33, 39, 45, 48}, Mask::causal, kHeads, dtype, 8),
        attention_bound(dtype));
  }
}

TEST(DistributedAttention, IsRightWhereAllOtherRanksBlocksAreMasked) {
  for (const Mask mask : {Mask::causal, Mask::full}) {
    expect_right(
        "one document a rank",
        random_problem({0, 24, 48, 72, 96, 120, 144, 168, 192}, mask, kHeads, DType::f32, 9),
        attention_bound(DType::f32));
  }
}

TEST(DistributedAttention, KeepsNothingFromThePassBefore) {
  // Buffers of a step, or of a call, that are used again would show from the third rank on.
  const Heads heads{8, 4, 8};
  const WholeProblem first = random_problem({0, 30, 97}, Mask::causal, heads, DType::f32, 10);
  const WholeProblem second = random_problem({0, 30, 97}, Mask::causal, heads, DType::f32, 11);
  const WholeResult expected = solve_whole(second);
  for (const int ranks : {3, 4, 8}) {
    run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
      const std::unique_ptr<Backend> backend = make_cpu_backend(1);
      Meshes meshes(world);
      for (const Sharing& sharing : all_sharings(ranks, heads)) {
        const WholeResult actual =
            solve_on_ranks(*backend, meshes(sharing.mesh), first, sharing, &second);
        if (world.rank() != 0) continue;
        EXPECT_LE(errors_of(actual, expected).worst(), attention_bound(DType::f32))
            << sharing.str();
      }
    });
  }
}

TEST(DistributedAttention, GivesTheSameBitsEveryTime) {
  const WholeProblem p = random_problem({0, 97}, Mask::causal, {8, 4, 8}, DType::bf16, 12);
  run_thread_ranks(4, kTimeout, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    Meshes meshes(world);
    for (const Sharing& sharing : all_sharings(4, p.heads)) {
      const WholeResult once = solve_on_ranks(*backend, meshes(sharing.mesh), p, sharing);
      const WholeResult again = solve_on_ranks(*backend, meshes(sharing.mesh), p, sharing);
      EXPECT_TRUE(once.out == again.out && once.lse == again.lse && once.dq == again.dq &&
                  once.dk == again.dk && once.dv == again.dv)
          << sharing.str();
    }
  });
}

}  // namespace
}  // namespace ringbolt
