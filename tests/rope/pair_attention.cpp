#include "tests/rope/pair_attention.h"

#include <algorithm>
#include <cmath>

#include "core/backend/backend.h"
#include "rope/frequencies.h"
#include "tests/support/random_values.h"

namespace ringbolt::testing_support {
namespace {

using Values = std::vector<double>;
constexpr int64_t kHeads = kPairHeads;
constexpr int64_t kKeyHeads = kPairKeyHeads;
constexpr int64_t kDim = kPairDim;

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

const double* row(const Values& x, int64_t token, int64_t head, int64_t heads) {
  return &x[static_cast<size_t>((token * heads + head) * kDim)];
}
double* row(Values& x, int64_t token, int64_t head, int64_t heads) {
  return &x[static_cast<size_t>((token * heads + head) * kDim)];
}
void add(double* to, double factor, const double* from) {
  for (int64_t i = 0; i < kDim; ++i) to[i] += factor * from[i];
}

/// One query row: softmax over the keys it sees, at their distances, and its gradients.
void solve_row(const PairProblem& p, const PairRule& rule, int64_t begin, int64_t token,
               int64_t head, PairSolution& s) {
  const auto frequencies = default_frequencies(kDim, rule.base);
  const int64_t kv = head / (kHeads / kKeyHeads);
  const double scale = rule.query_scale(token - begin) / std::sqrt(static_cast<double>(kDim));
  std::vector<int64_t> seen;
  for (int64_t n = begin; n <= token; ++n) {
    if (rule.sees(token - begin, n - begin)) seen.push_back(n);
  }
  Values weights;
  std::vector<Values> turned_queries;
  double sum = 0;
  for (const int64_t n : seen) {
    const double distance = rule.distance(token - begin, n - begin);
    turned_queries.push_back(turned(row(p.q, token, head, kHeads), distance, frequencies));
    weights.push_back(
        std::exp(scale * dot(turned_queries.back().data(), row(p.k, n, kv, kKeyHeads))));
    sum += weights.back();
  }
  double* out = row(s.out, token, head, kHeads);
  for (size_t at = 0; at < seen.size(); ++at) {
    weights[at] /= sum;
    add(out, weights[at], row(p.v, seen[at], kv, kKeyHeads));
  }
  const double* dout = row(p.dout, token, head, kHeads);
  const double delta = dot(dout, out);
  for (size_t at = 0; at < seen.size(); ++at) {
    const int64_t n = seen[at];
    const double distance = rule.distance(token - begin, n - begin);
    const double slope = scale * weights[at] * (dot(dout, row(p.v, n, kv, kKeyHeads)) - delta);
    add(row(s.dv, n, kv, kKeyHeads), weights[at], dout);
    add(row(s.dk, n, kv, kKeyHeads), slope, turned_queries[at].data());
    add(row(s.dq, token, head, kHeads), slope,
        turned(row(p.k, n, kv, kKeyHeads), -distance, frequencies).data());
  }
}

/// Rows of the tokens, the first `heads` of `all_heads` per row from `first` on.
void gather(const Values& from, int64_t heads, const std::vector<int64_t>& tokens,
            int64_t all_heads, int64_t first, std::vector<float>& to) {
  to.resize(tokens.size() * static_cast<size_t>(all_heads * kDim));
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] < 0) continue;
    for (int64_t i = 0; i < heads * kDim; ++i) {
      to[t * static_cast<size_t>(all_heads * kDim) + static_cast<size_t>(first * kDim + i)] =
          static_cast<float>(from[static_cast<size_t>(tokens[t] * heads * kDim + i)]);
    }
  }
}

void include(const std::vector<float>& actual, int64_t all_heads, int64_t first,
             const Values& expected, int64_t heads, const std::vector<int64_t>& tokens,
             PairComparison& c) {
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] < 0) continue;
    for (int64_t i = 0; i < heads * kDim; ++i) {
      const float a =
          actual[t * static_cast<size_t>(all_heads * kDim) + static_cast<size_t>(first * kDim + i)];
      const double e = expected[static_cast<size_t>(tokens[t] * heads * kDim + i)];
      c.error = std::max(c.error, std::abs(static_cast<double>(a) - e));
      ++c.compared;
    }
  }
}

/// What a rank holds of the problem, and what its attention makes of it.
struct Placed {
  Tensor q, kv, dout, out, lse, dq, dkv;
};

Placed place_problem(Backend& backend, const PairProblem& p, const std::vector<int64_t>& tokens) {
  const auto t = static_cast<int64_t>(tokens.size());
  std::vector<float> q, kv, dout;
  gather(p.q, kHeads, tokens, kHeads, 0, q);
  gather(p.dout, kHeads, tokens, kHeads, 0, dout);
  gather(p.k, kKeyHeads, tokens, 2 * kKeyHeads, 0, kv);
  gather(p.v, kKeyHeads, tokens, 2 * kKeyHeads, kKeyHeads, kv);
  const Shape query{t, kHeads, kDim};
  const Shape key{t, 2 * kKeyHeads, kDim};
  return {upload_new(backend, DType::f32, query, q.data()),
          upload_new(backend, DType::f32, key, kv.data()),
          upload_new(backend, DType::f32, query, dout.data()),
          backend.allocate(DType::f32, query),
          backend.allocate(DType::f32, {t, kHeads}),
          backend.allocate(DType::f32, query),
          backend.allocate(DType::f32, key)};
}

/// Turns queries and keys, as a block does.
void turn(Backend& backend, const RotaryTable& table, Tensor& q, Tensor& kv,
          RotaryDirection direction) {
  std::optional<ConstView> scale;
  if (table.query_scale) scale = table.query_scale->view();
  backend.rotary(q, table.cos, table.sin, RotaryPairing::half_split, direction, scale);
  backend.rotary(kv.view().slice_columns(0, kKeyHeads), table.cos, table.sin,
                 RotaryPairing::half_split, direction);
}

}  // namespace

PairProblem random_pair_problem() {
  PairProblem p;
  p.offsets = {0, 37, 101};
  p.q = random_values(1, p.tokens() * kHeads * kDim, -3, 3);
  p.k = random_values(2, p.tokens() * kKeyHeads * kDim);
  p.v = random_values(3, p.tokens() * kKeyHeads * kDim);
  p.dout = random_values(4, p.tokens() * kHeads * kDim);
  for (Values* values : {&p.q, &p.k, &p.v, &p.dout}) {
    for (double& x : *values) x = static_cast<double>(static_cast<float>(x));
  }
  return p;
}

PairSolution solve_pairs(const PairProblem& p, const PairRule& rule) {
  PairSolution s{Values(p.q.size()), Values(p.q.size()), Values(p.k.size()), Values(p.k.size())};
  for (size_t d = 0; d + 1 < p.offsets.size(); ++d) {
    for (int64_t t = p.offsets[d]; t < p.offsets[d + 1]; ++t) {
      for (int64_t h = 0; h < kHeads; ++h) solve_row(p, rule, p.offsets[d], t, h, s);
    }
  }
  return s;
}

PairComparison compare_placed(Backend& backend, Placement& placement, const PairProblem& p,
                              const PairSolution& expected, const RotaryTables& tables) {
  const PlacedTokens& mine = placement.place(p.offsets);
  Placed x = place_problem(backend, p, mine.tokens);
  std::optional<RotaryTable> table;
  if (tables) table = tables(mine.positions);
  if (table) turn(backend, *table, x.q, x.kv, RotaryDirection::forward);
  mine.attention->forward(0, x.q, x.kv, x.out, x.lse);
  mine.attention->backward(0, x.q, x.kv, x.dout, x.out, x.lse, x.dq, x.dkv);
  if (table) turn(backend, *table, x.dq, x.dkv, RotaryDirection::backward);
  PairComparison c;
  include(download_f32(backend, x.out), kHeads, 0, expected.out, kHeads, mine.tokens, c);
  include(download_f32(backend, x.dq), kHeads, 0, expected.dq, kHeads, mine.tokens, c);
  const auto keys = download_f32(backend, x.dkv);
  include(keys, 2 * kKeyHeads, 0, expected.dk, kKeyHeads, mine.tokens, c);
  include(keys, 2 * kKeyHeads, kKeyHeads, expected.dv, kKeyHeads, mine.tokens, c);
  return c;
}

}  // namespace ringbolt::testing_support
