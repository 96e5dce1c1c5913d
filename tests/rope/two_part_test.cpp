// Self-Extend and ReRoPE against a double-precision reference that rotates by the effective distance of each pair, on
// one rank and through ring attention.
#include "rope/two_part.h"

#include <atomic>
#include <cmath>

#include <gtest/gtest.h>

#include "parallel/mesh.h"
#include "parallel/placement.h"
#include "parallel/threads.h"
#include "rope/frequencies.h"
#include "rope/table.h"
#include "tests/support/random_values.h"

namespace ringbolt {
namespace {

using testing_support::random_values;
using Values = std::vector<double>;

constexpr int64_t kHeads = 4;
constexpr int64_t kKeyHeads = 2;
constexpr int64_t kDim = 8;

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
  // arXiv 2404.12096, appendix: w = 4, g = 2, ten tokens; the last one's distances, and those of token 4.
  RopeScaling s{.method = RopeMethod::self_extend};
  s.window = 4;
  s.group = 2;
  const std::vector<double> expected{0, 1, 2, 3, 4, 4, 5, 5, 6, 6};
  std::vector<double> seen;
  // A decoder's query m and key 0.
  for (int64_t m = 0; m < 10; ++m) seen.push_back(effective_distance(s, m, 0));
  EXPECT_EQ(seen, expected);
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
}

TEST(SelfExtend, ReachesAsPublished) { EXPECT_EQ(self_extend_reach(4096, 1024, 5), 16384); }

/// q turned by an angle per pair (i, i + D/2).
Values turned(const double* x, double distance, const std::vector<double>& frequencies) {
  Values y(static_cast<size_t>(kDim));
  const size_t half = frequencies.size();
  for (size_t i = 0; i < half; ++i) {
    const double c = std::cos(distance * frequencies[i]);
    const double s = std::sin(distance * frequencies[i]);
    y[i] = x[i] * c - x[i + half] * s;
    y[i + half] = x[i] * s + x[i + half] * c;
  }
  return y;
}

double dot(const double* a, const double* b) {
  double sum = 0;
  for (int64_t i = 0; i < kDim; ++i) sum += a[i] * b[i];
  return sum;
}

struct Problem {
  std::vector<int64_t> offsets{0, 37, 101};
  Values q, k, v, dout;  // (S, heads, D)
  int64_t tokens() const { return offsets.back(); }
};

Problem random_problem() {
  Problem p;
  p.q = random_values(1, p.tokens() * kHeads * kDim, -3, 3);
  p.k = random_values(2, p.tokens() * kKeyHeads * kDim);
  p.v = random_values(3, p.tokens() * kKeyHeads * kDim);
  p.dout = random_values(4, p.tokens() * kHeads * kDim);
  for (Values* values : {&p.q, &p.k, &p.v, &p.dout}) {
    for (double& x : *values) x = static_cast<double>(static_cast<float>(x));
  }
  return p;
}

struct Solution {
  Values out, dq, dk, dv;
};

const double* row(const Values& x, int64_t token, int64_t head, int64_t heads) {
  return &x[static_cast<size_t>((token * heads + head) * kDim)];
}
double* row(Values& x, int64_t token, int64_t head, int64_t heads) {
  return &x[static_cast<size_t>((token * heads + head) * kDim)];
}
void add(double* to, double factor, const double* from) {
  for (int64_t i = 0; i < kDim; ++i) to[i] += factor * from[i];
}

/// One query row: softmax over the document's keys at their effective distances, and its gradients.
void solve_row(const Problem& p, const ModelConfig& config, int64_t begin, int64_t token, int64_t head, Solution& s) {
  const auto frequencies = default_frequencies(kDim, config.rope_theta);
  const int64_t kv = head / (kHeads / kKeyHeads);
  const RotaryMethod method(config);
  const double scale = method.query_scale(token - begin) / std::sqrt(static_cast<double>(kDim));
  Values weights;
  std::vector<Values> turned_queries;
  double sum = 0;
  for (int64_t n = begin; n <= token; ++n) {
    const double distance = effective_distance(config.rope_scaling, token - begin, n - begin);
    turned_queries.push_back(turned(row(p.q, token, head, kHeads), distance, frequencies));
    weights.push_back(std::exp(scale * dot(turned_queries.back().data(), row(p.k, n, kv, kKeyHeads))));
    sum += weights.back();
  }
  double* out = row(s.out, token, head, kHeads);
  for (int64_t n = begin; n <= token; ++n) {
    weights[static_cast<size_t>(n - begin)] /= sum;
    add(out, weights[static_cast<size_t>(n - begin)], row(p.v, n, kv, kKeyHeads));
  }
  const double* dout = row(p.dout, token, head, kHeads);
  const double delta = dot(dout, out);
  for (int64_t n = begin; n <= token; ++n) {
    const auto at = static_cast<size_t>(n - begin);
    const double distance = effective_distance(config.rope_scaling, token - begin, n - begin);
    const double slope = scale * weights[at] * (dot(dout, row(p.v, n, kv, kKeyHeads)) - delta);
    add(row(s.dv, n, kv, kKeyHeads), weights[at], dout);
    add(row(s.dk, n, kv, kKeyHeads), slope, turned_queries[at].data());
    add(row(s.dq, token, head, kHeads), slope, turned(row(p.k, n, kv, kKeyHeads), -distance, frequencies).data());
  }
}

Solution solve(const Problem& p, const ModelConfig& config) {
  Solution s{Values(p.q.size()), Values(p.q.size()), Values(p.k.size()), Values(p.k.size())};
  for (size_t d = 0; d + 1 < p.offsets.size(); ++d) {
    for (int64_t t = p.offsets[d]; t < p.offsets[d + 1]; ++t) {
      for (int64_t h = 0; h < kHeads; ++h) solve_row(p, config, p.offsets[d], t, h, s);
    }
  }
  return s;
}

/// Rows of the tokens, the first `heads` of `all_heads` per row from `first` on.
void gather(const Values& from, int64_t heads, const std::vector<int64_t>& tokens, int64_t all_heads, int64_t first,
            std::vector<float>& to) {
  to.resize(tokens.size() * static_cast<size_t>(all_heads * kDim));
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] < 0) continue;
    for (int64_t i = 0; i < heads * kDim; ++i) {
      to[t * static_cast<size_t>(all_heads * kDim) + static_cast<size_t>(first * kDim + i)] =
          static_cast<float>(from[static_cast<size_t>(tokens[t] * heads * kDim + i)]);
    }
  }
}

struct Worst {
  double error = 0;
  int64_t compared = 0;
  void include(const std::vector<float>& actual, int64_t all_heads, int64_t first, const Values& expected,
               int64_t heads, const std::vector<int64_t>& tokens) {
    for (size_t t = 0; t < tokens.size(); ++t) {
      if (tokens[t] < 0) continue;
      for (int64_t i = 0; i < heads * kDim; ++i) {
        const float a = actual[t * static_cast<size_t>(all_heads * kDim) + static_cast<size_t>(first * kDim + i)];
        const double e = expected[static_cast<size_t>(tokens[t] * heads * kDim + i)];
        error = std::max(error, std::abs(static_cast<double>(a) - e));
        ++compared;
      }
    }
  }
};

/// Largest error of output and gradients over this rank's rows.
Worst solve_placed(Backend& backend, Placement& placement, const Problem& p, const Solution& expected) {
  const PlacedTokens& mine = placement.place(p.offsets);
  const auto t = static_cast<int64_t>(mine.tokens.size());
  std::vector<float> q, kv, dout;
  gather(p.q, kHeads, mine.tokens, kHeads, 0, q);
  gather(p.dout, kHeads, mine.tokens, kHeads, 0, dout);
  gather(p.k, kKeyHeads, mine.tokens, 2 * kKeyHeads, 0, kv);
  gather(p.v, kKeyHeads, mine.tokens, 2 * kKeyHeads, kKeyHeads, kv);
  const Shape query{t, kHeads, kDim};
  const Shape key{t, 2 * kKeyHeads, kDim};
  const Tensor q_t = upload_new(backend, DType::f32, query, q.data());
  const Tensor kv_t = upload_new(backend, DType::f32, key, kv.data());
  const Tensor dout_t = upload_new(backend, DType::f32, query, dout.data());
  Tensor out = backend.allocate(DType::f32, query);
  Tensor lse = backend.allocate(DType::f32, {t, kHeads});
  Tensor dq = backend.allocate(DType::f32, query);
  Tensor dkv = backend.allocate(DType::f32, key);
  mine.attention->forward(0, q_t, kv_t, out, lse);
  mine.attention->backward(0, q_t, kv_t, dout_t, out, lse, dq, dkv);
  Worst worst;
  worst.include(download_f32(backend, out), kHeads, 0, expected.out, kHeads, mine.tokens);
  worst.include(download_f32(backend, dq), kHeads, 0, expected.dq, kHeads, mine.tokens);
  const auto keys = download_f32(backend, dkv);
  worst.include(keys, 2 * kKeyHeads, 0, expected.dk, kKeyHeads, mine.tokens);
  worst.include(keys, 2 * kKeyHeads, kKeyHeads, expected.dv, kKeyHeads, mine.tokens);
  return worst;
}

class TwoParts : public testing::TestWithParam<RopeMethod> {};

TEST_P(TwoParts, MatchTheReferenceOnOneDevice) {
  const ModelConfig config = config_of(GetParam());
  const RotaryMethod method(config);
  const Problem p = random_problem();
  const auto backend = make_cpu_backend();
  const auto placement = place_for_method(
      *backend, method, [&](DistanceRange distances) { return std::make_unique<WholePlacement>(*backend, distances); });
  const Worst worst = solve_placed(*backend, *placement, p, solve(p, config));
  EXPECT_LT(worst.error, 2e-5);  // sums of 64 products of magnitude up to 10, in f32
  EXPECT_EQ(worst.compared, p.tokens() * kDim * (2 * kHeads + 2 * kKeyHeads));
}

TEST_P(TwoParts, DifferFromThePlainMethod) {
  const Problem p = random_problem();
  const ModelConfig config = config_of(GetParam());
  ModelConfig plain = config;
  plain.rope_scaling.window = 1000;  // beyond the sequence: nothing is far
  const Values far = solve(p, config).out;
  const Values near = solve(p, plain).out;
  double largest = 0;
  for (size_t i = 0; i < far.size(); ++i) largest = std::max(largest, std::abs(far[i] - near[i]));
  EXPECT_GT(largest, 0.1);
}

TEST_P(TwoParts, MatchTheReferenceThroughTheRing) {
  const ModelConfig config = config_of(GetParam());
  const Problem p = random_problem();
  const Solution expected = solve(p, config);
  int cases = 0;
  for (const int ranks : {1, 3, 4}) {
    for (const LayoutKind layout : {LayoutKind::contiguous, LayoutKind::zigzag, LayoutKind::striped}) {
      std::atomic<int64_t> compared = 0;
      run_thread_ranks(ranks, 60, [&](Communicator& world) {
        const auto backend = make_cpu_backend(1);
        Mesh mesh(world, {.inner = ranks});
        const RotaryMethod method(config);
        const auto placement = place_for_method(*backend, method, [&](DistanceRange distances) {
          return std::make_unique<MeshPlacement>(*backend, mesh, layout, AttentionChoice{}, distances);
        });
        const Worst worst = solve_placed(*backend, *placement, p, expected);
        EXPECT_LT(worst.error, 2e-5) << ranks << " ranks, " << name_of(layout);
        compared += worst.compared;
      });
      EXPECT_EQ(compared, p.tokens() * kDim * (2 * kHeads + 2 * kKeyHeads)) << ranks << " ranks, " << name_of(layout);
      ++cases;
    }
  }
  EXPECT_EQ(cases, 9);
}

INSTANTIATE_TEST_SUITE_P(Methods, TwoParts,
                         testing::Values(RopeMethod::self_extend, RopeMethod::rerope, RopeMethod::leaky_rerope),
                         [](const auto& method) { return name_of(method.param); });

}  // namespace
}  // namespace ringbolt
