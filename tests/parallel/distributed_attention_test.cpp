// Attention over ranks against the double-precision reference over the whole sequence: every mesh,
// layout, strategy and mask gives the same numbers.
#include "parallel/distributed_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/threads.h"
#include "tests/parallel/attention_case.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using Mask = AttentionSlice::Mask;
using Offsets = std::vector<int64_t>;

constexpr double kTimeout = 60;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

}  // namespace
}  // namespace ringbolt
