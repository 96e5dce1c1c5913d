#include "tests/parallel/attention_case.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <span>
#include <utility>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/compare.h"
#include "tests/support/placed.h"

namespace ringbolt::testing_support {
namespace {

using reference::Values;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<AttentionSlice> whole_slices(const WholeProblem& problem) {
  std::vector<AttentionSlice> slices = causal_slices(problem.offsets);
  for (AttentionSlice& slice : slices) slice.mask = problem.mask;
  return slices;
}

/// This rank's rows of the whole: token indices, -1 for padding.
std::vector<int64_t> local_tokens(Mesh& mesh, const SequenceLayout& layout) {
  const std::vector<int64_t> all = layout.tokens(mesh.ring_rank());
  const auto rows = static_cast<std::ptrdiff_t>(all.size()) / mesh.shape().head;
  return {all.begin() + mesh.head_rank() * rows, all.begin() + (mesh.head_rank() + 1) * rows};
}

/// Columns [begin, begin + width) of a row of `wide` elements take whole's rows of these tokens.
void take_rows(const Values& whole, int64_t width, const std::vector<int64_t>& tokens, Values& rows,
               int64_t wide, int64_t begin) {
  rows.resize(tokens.size() * static_cast<size_t>(wide), kNaN);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0) continue;
    std::copy_n(whole.begin() + tokens[i] * width, width,
                rows.begin() + static_cast<int64_t>(i) * wide + begin);
  }
}

/// One rank's operands and results.
struct Rows {
  Placed q, kv, dout, out, lse, dq, dkv;
};

Rows make_rows(Backend& backend, const WholeProblem& p, const std::vector<int64_t>& tokens) {
  const auto [heads, kv_heads, dim] = p.heads;
  const auto t = static_cast<int64_t>(tokens.size());
  Values q, kv, dout;
  take_rows(p.q, heads * dim, tokens, q, heads * dim, 0);
  take_rows(p.dout, heads * dim, tokens, dout, heads * dim, 0);
  take_rows(p.k, kv_heads * dim, tokens, kv, 2 * kv_heads * dim, 0);
  take_rows(p.v, kv_heads * dim, tokens, kv, 2 * kv_heads * dim, kv_heads * dim);
  return {Placed(backend, p.dtype, {t, heads, dim}, q),
          Placed(backend, p.dtype, {t, 2 * kv_heads, dim}, kv),
          Placed(backend, p.dtype, {t, heads, dim}, dout),
          Placed(backend, p.dtype, {t, heads, dim}),
          Placed(backend, DType::f32, {t, heads}),
          Placed(backend, p.dtype, {t, heads, dim}),
          Placed(backend, p.dtype, {t, 2 * kv_heads, dim})};
}

/// The whole (S, width) from every rank's rows, columns [begin, begin + width) of each.
Values collect(Communicator& ranks, const Values& rows, const std::vector<int64_t>& tokens,
               int64_t width, int64_t begin, int64_t whole_tokens) {
  const auto n = static_cast<size_t>(ranks.size());
  std::vector<double> all(rows.size() * n);
  std::vector<int64_t> all_tokens(tokens.size() * n);
  ranks.all_gather(std::as_bytes(std::span(rows)), std::as_writable_bytes(std::span(all)));
  ranks.all_gather(std::as_bytes(std::span(tokens)), std::as_writable_bytes(std::span(all_tokens)));
  Values whole(static_cast<size_t>(whole_tokens * width), kNaN);  // what no rank has stays NaN
  const int64_t wide = tokens.empty() ? 0 : static_cast<int64_t>(rows.size() / tokens.size());
  for (size_t i = 0; i < all_tokens.size(); ++i) {
    if (all_tokens[i] < 0) continue;
    std::copy_n(all.begin() + static_cast<int64_t>(i) * wide + begin, width,
                whole.begin() + all_tokens[i] * width);
  }
  return whole;
}

double relative_to_norm(const Values& actual, const Values& expected, double least) {
  const Comparison c = compare(actual, expected);
  const bool good = actual.size() == expected.size() && c.compared > 0 && c.not_finite == 0;
  if (!good) return std::numeric_limits<double>::infinity();
  const double norm =
      std::max(c.expected_norm, least * std::sqrt(static_cast<double>(expected.size())));
  return c.error_norm / (norm > 0 ? norm : 1.0);
}

}  // namespace

reference::AttentionShape WholeProblem::shape() const {
  return {tokens(), tokens(), heads.query, heads.key, heads.dim};
}

WholeProblem random_problem(std::vector<int64_t> offsets, AttentionSlice::Mask mask, Heads heads,
                            DType dtype, uint64_t seed) {
  const int64_t s = offsets.back();
  const auto values = [&](uint64_t stream, int64_t n_heads, double most) {
    return rounded_to(dtype,
                      random_values(seed * 10 + stream, s * n_heads * heads.dim, -most, most));
  };
  Values q = values(1, heads.query, 3);
  Values k = values(2, heads.key, 1);
  Values v = values(3, heads.key, 1);
  Values dout = values(4, heads.query, 1);
  return {std::move(offsets), mask,         heads,        dtype,
          std::move(q),       std::move(k), std::move(v), std::move(dout)};
}

WholeResult solve_whole(const WholeProblem& p) {
  const std::vector<AttentionSlice> slices = whole_slices(p);
  const auto scale = static_cast<double>(attention_scale(p.heads.dim));
  auto forward = reference::attention_forward(slices, p.q, p.k, p.v, scale, p.shape());
  auto backward = reference::attention_backward(slices, p.q, p.k, p.v, p.dout, scale, p.shape());
  return {std::move(forward.out), std::move(forward.lse), std::move(backward.dq),
          std::move(backward.dk), std::move(backward.dv)};
}

double Errors::worst() const { return std::max({out, lse, dq, dk, dv}); }

void Errors::include(const Errors& other) {
  out = std::max(out, other.out);
  lse = std::max(lse, other.lse);
  dq = std::max(dq, other.dq);
  dk = std::max(dk, other.dk);
  dv = std::max(dv, other.dv);
}

Errors errors_of(const WholeResult& actual, const WholeResult& expected, double least) {
  const auto error = [&](Values WholeResult::*tensor) {
    return relative_to_norm(actual.*tensor, expected.*tensor, least);
  };
  return {error(&WholeResult::out), error(&WholeResult::lse), error(&WholeResult::dq),
          error(&WholeResult::dk), error(&WholeResult::dv)};
}

std::string Sharing::str() const {
  const char* strategies[] = {"ring", "double_ring", "all_gather"};
  return concat(name_of(layout), ", ", strategies[static_cast<int>(choice.strategy)], " ",
                mesh.outer, " x ", mesh.inner, " x ", mesh.head,
                choice.backward == RingBackward::queries ? " (queries)" : "");
}

WholeResult solve_on_ranks(Backend& backend, Mesh& mesh, const WholeProblem& problem,
                           const Sharing& sharing, const WholeProblem* second) {
  const SequenceLayout layout(sharing.layout, problem.offsets, mesh.shape().ring(),
                              mesh.shape().head);
  const std::vector<int64_t> tokens = local_tokens(mesh, layout);
  const auto attention =
      make_distributed_attention(backend, mesh, layout, problem.mask, sharing.choice);
  const auto solve = [&](const WholeProblem& p) {
    Rows rows = make_rows(backend, p, tokens);
    attention->forward(0, rows.q, rows.kv, rows.out, rows.lse);
    if (sharing.choice.dtype != AttentionDType::model) return rows;  // forward only
    attention->backward(0, rows.q, rows.kv, rows.dout, rows.out, rows.lse, rows.dq, rows.dkv);
    return rows;
  };
  if (second != nullptr) solve(problem);
  Rows rows = solve(second != nullptr ? *second : problem);
  const auto whole = [&](Placed& x, int64_t width, int64_t begin = 0) {
    return collect(mesh.sequence(), x.read(), tokens, width, begin, problem.tokens());
  };
  const int64_t query = problem.heads.query * problem.heads.dim;
  const int64_t key = problem.heads.key * problem.heads.dim;
  return {whole(rows.out, query), whole(rows.lse, problem.heads.query), whole(rows.dq, query),
          whole(rows.dkv, key), whole(rows.dkv, key, key)};
}

std::vector<Sharing> all_sharings(int ranks, Heads heads) {
  std::vector<AttentionChoice> ring_choices = {{AttentionStrategy::ring, RingBackward::keys},
                                               {AttentionStrategy::ring, RingBackward::queries},
                                               {AttentionStrategy::all_gather, RingBackward::keys}};
  std::vector<Sharing> sharings;
  const auto add = [&](MeshShape mesh, const AttentionChoice& choice) {
    for (const LayoutKind kind :
         {LayoutKind::contiguous, LayoutKind::zigzag, LayoutKind::striped}) {
      sharings.push_back({mesh, kind, choice});
    }
  };
  for (int head = 1; head <= ranks; ++head) {
    const bool fits = ranks % head == 0 && heads.query % head == 0 &&
                      (heads.key % head == 0 || head % heads.key == 0);
    if (!fits) continue;
    const int ring = ranks / head;
    for (const AttentionChoice& choice : ring_choices) {
      if (ring == 1 && choice.strategy == AttentionStrategy::all_gather) continue;
      add({.inner = ring, .head = head}, choice);
    }
    for (int outer = 2; outer < ring; ++outer) {
      if (ring % outer != 0) continue;
      for (const RingBackward side : {RingBackward::keys, RingBackward::queries}) {
        add({.outer = outer, .inner = ring / outer, .head = head},
            {AttentionStrategy::double_ring, side});
      }
    }
  }
  return sharings;
}

Mesh& Meshes::operator()(const MeshShape& shape) {
  auto& mesh = meshes_[{shape.outer, shape.inner, shape.head}];
  if (mesh == nullptr) mesh = std::make_unique<Mesh>(world_, tensors_, shape);
  return *mesh;
}

Outcome expect_every_way(Communicator& world, const std::string& what, const WholeProblem& problem,
                         double most, double least, const RankDevice& device) {
  const std::unique_ptr<Backend> backend = device.backend();
  const std::unique_ptr<Communicator> tensors = device.tensors(world, *backend);
  Meshes meshes(world, *tensors);
  const WholeResult expected = world.rank() == 0 ? solve_whole(problem) : WholeResult();
  Outcome outcome;
  for (const Sharing& sharing : all_sharings(world.size(), problem.heads)) {
    const WholeResult actual = solve_on_ranks(*backend, meshes(sharing.mesh), problem, sharing);
    if (world.rank() != 0) continue;
    const Errors e = errors_of(actual, expected, least);
    EXPECT_LE(e.worst(), most) << what << ", S " << problem.tokens() << ", "
                               << name_of(problem.dtype) << ", " << sharing.str() << ": out "
                               << e.out << " lse " << e.lse << " dq " << e.dq << " dk " << e.dk
                               << " dv " << e.dv;
    outcome.worst.include(e);
    ++outcome.cases;
  }
  return outcome;
}

namespace {

using Mask = AttentionSlice::Mask;

/// Lengths that are prime, shorter than the 2P chunks of zigzag, and one more than a multiple; each
/// causal, full, and cut into three documents of which one has a single token.
std::vector<std::pair<std::vector<int64_t>, Mask>> odd_sequences(int ranks) {
  std::vector<std::pair<std::vector<int64_t>, Mask>> result;
  for (const int64_t s :
       {int64_t{61}, std::max<int64_t>(1, 2 * ranks - 1), int64_t{8 * ranks + 1}}) {
    result.push_back({{0, s}, Mask::causal});
    result.push_back({{0, s}, Mask::full});
    if (s > 4) result.push_back({{0, s / 3, s / 3 + 1, s}, Mask::causal});
  }
  return result;
}

}  // namespace

int64_t expect_whole_sequence_every_way(Communicator& world, const RankDevice& device) {
  int64_t cases = 0;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Outcome all;
    uint64_t seed = 1;
    for (const Heads& heads : {Heads{8, 8, 8}, Heads{8, 2, 8}, Heads{6, 3, 10}}) {
      for (const auto& [offsets, mask] : odd_sequences(world.size())) {
        const std::string what = concat(offsets.size() - 1, " documents, H ", heads.query, ", K ",
                                        heads.key, mask == Mask::full ? ", full" : "");
        const Outcome outcome =
            expect_every_way(world, what, random_problem(offsets, mask, heads, dtype, ++seed),
                             attention_bound(dtype), 0, device);
        all.worst.include(outcome.worst);
        all.cases += outcome.cases;
      }
    }
    if (world.rank() == 0) {
      std::printf("  P %d, %s: worst of %lld: out %.2e lse %.2e dq %.2e dk %.2e dv %.2e\n",
                  world.size(), name_of(dtype).c_str(), static_cast<long long>(all.cases),
                  all.worst.out, all.worst.lse, all.worst.dq, all.worst.dk, all.worst.dv);
    }
    cases += all.cases;
  }
  return cases;
}

}  // namespace ringbolt::testing_support
