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
/// Relative to each tensor's norm. f32: sums of logits near 1, each with an error of a few 2^-24.
/// bf16: kernels round probabilities and dS to 2^-9 before the second product, the result is
/// rounded once more, and delta comes from the output as it is kept, in bf16: where a query sees
/// few keys, dS = P (dP - delta) cancels and that error of 2^-9 weighs more.
double bound(DType dtype) { return dtype == DType::f32 ? 2e-6 : 0x1p-6; }

/// One mesh a shape: splitting communicators for every case would take longer than the cases.
class Meshes {
 public:
  explicit Meshes(Communicator& world) : world_(world) {}
  Mesh& operator()(const MeshShape& shape) {
    auto& mesh = meshes_[{shape.outer, shape.inner, shape.head}];
    if (mesh == nullptr) mesh = std::make_unique<Mesh>(world_, shape);
    return *mesh;
  }

 private:
  Communicator& world_;
  std::map<std::array<int, 3>, std::unique_ptr<Mesh>> meshes_;
};

class EveryWay : public testing::TestWithParam<int> {};

/// A document, three of which one has a single token, and no causality; odd lengths of every kind.
std::vector<std::pair<Offsets, Mask>> sequences(int ranks) {
  std::vector<std::pair<Offsets, Mask>> result;
  for (const int64_t s :
       {int64_t{61}, std::max<int64_t>(1, 2 * ranks - 1), int64_t{8 * ranks + 1}}) {
    result.push_back({{0, s}, Mask::causal});
    result.push_back({{0, s}, Mask::full});
    if (s > 4) result.push_back({{0, s / 3, s / 3 + 1, s}, Mask::causal});
  }
  return result;
}

TEST_P(EveryWay, MatchesTheWholeSequence) {
  const int ranks = GetParam();
  int64_t cases = 0;
  std::map<DType, Errors> errors;
  run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    Meshes meshes(world);
    uint64_t seed = 1;
    for (const Heads& heads : {Heads{8, 8, 8}, Heads{8, 2, 8}, Heads{6, 3, 10}}) {
      const std::vector<Sharing> sharings = all_sharings(ranks, heads);
      for (const auto& [offsets, mask] : sequences(ranks)) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
          const WholeProblem problem = random_problem(offsets, mask, heads, dtype, ++seed);
          const WholeResult expected = world.rank() == 0 ? solve_whole(problem) : WholeResult();
          for (const Sharing& sharing : sharings) {
            const WholeResult actual =
                solve_on_ranks(*backend, meshes(sharing.mesh), problem, sharing);
            if (world.rank() != 0) continue;
            const Errors e = errors_of(actual, expected);
            EXPECT_LE(e.worst(), bound(dtype))
                << sharing.str() << ", S " << problem.tokens() << ", " << offsets.size() - 1
                << " documents, H " << heads.query << ", K " << heads.key << ", " << name_of(dtype)
                << ": out " << e.out << " lse " << e.lse << " dq " << e.dq << " dk " << e.dk
                << " dv " << e.dv;
            errors[dtype].include(e);
            ++cases;
          }
        }
      }
    }
  });
  for (const auto& [dtype, e] : errors) {
    std::printf("  P %d, %s: worst of %lld cases: out %.2e lse %.2e dq %.2e dk %.2e dv %.2e\n",
                ranks, name_of(dtype).c_str(), static_cast<long long>(cases / 2), e.out, e.lse,
                e.dq, e.dk, e.dv);
  }
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
        EXPECT_LE(of[ranks].worst(), bound(dtype)) << name << ", P " << ranks;
        // Cut elsewhere, the same sums are rounded otherwise: half more, and one rounding.
        EXPECT_LE(of[ranks].worst(),
                  1.5 * of[1].worst() + (dtype == DType::f32 ? 0x1p-24 : 0x1p-10))
            << name << ", P " << ranks;
      }
    }
    std::puts("");
  }
}

/// Solves `problem` on 2, 3, 4 and 8 ranks in every way. `least`: see errors_of.
void expect_right(const std::string& what, const WholeProblem& problem, double most,
                  double least = 0) {
  const WholeResult expected = solve_whole(problem);
  for (const int ranks : {2, 3, 4, 8}) {
    run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
      const std::unique_ptr<Backend> backend = make_cpu_backend(1);
      Meshes meshes(world);
      for (const Sharing& sharing : all_sharings(ranks, problem.heads)) {
        const WholeResult actual = solve_on_ranks(*backend, meshes(sharing.mesh), problem, sharing);
        if (world.rank() != 0) continue;
        const Errors e = errors_of(actual, expected, least);
        EXPECT_LE(e.worst(), most) << what << ": " << sharing.str() << ": out " << e.out << " lse "
                                   << e.lse << " dq " << e.dq << " dk " << e.dk << " dv " << e.dv;
      }
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
    expect_right("far logits", p, bound(dtype) + 100 * 0x1p-23);
  }
}

TEST(DistributedAttention, IsRightForIdenticalKeys) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    WholeProblem p = random_problem({0, 67}, Mask::causal, kHeads, dtype, 6);
    const auto row = static_cast<std::ptrdiff_t>(kHeads.key * kHeads.dim);
    for (auto k = p.k.begin() + row; k != p.k.end(); k += row) std::copy_n(p.k.begin(), row, k);
    // dq is a sum of equal vectors whose weights cancel: compared with entries of a tenth.
    expect_right("identical keys", p, bound(dtype), 0.1);
  }
}

TEST(DistributedAttention, IsRightForDocumentsOfOneToken) {
  Offsets offsets(42);
  std::iota(offsets.begin(), offsets.end(), 0);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    // The only weight is 1 and nothing depends on q and k.
    expect_right("one token", random_problem(offsets, Mask::causal, kHeads, dtype, 7), bound(dtype),
                 0.1);
  }
}

TEST(DistributedAttention, IsRightForADocumentOverEveryRankBoundary) {
  // 48 tokens: boundaries of 2, 3, 4 and 8 contiguous ranks are multiples of 6.
  for (const DType dtype : {DType::f32, DType::bf16}) {
    expect_right(
        "straddling",
        random_problem({0, 3, 9, 15, 21, 22, 26, 33, 39, 45, 48}, Mask::causal, kHeads, dtype, 8),
        bound(dtype));
  }
}

TEST(DistributedAttention, IsRightWhereAllOtherRanksBlocksAreMasked) {
  for (const Mask mask : {Mask::causal, Mask::full}) {
    expect_right(
        "one document a rank",
        random_problem({0, 24, 48, 72, 96, 120, 144, 168, 192}, mask, kHeads, DType::f32, 9),
        bound(DType::f32));
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
        EXPECT_LE(errors_of(actual, expected).worst(), bound(DType::f32)) << sharing.str();
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
