#include "core/evaluate/context_loss.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/error.h"

namespace ringbolt {
namespace {

int64_t stride_of(const EvaluationProtocol& p) {
  return p.stride == 0 ? p.context_length : p.stride;
}

/// One pass: some windows laid one behind the other.
struct Pass {
  std::vector<int32_t> ids;
  std::vector<int32_t> targets;
  std::vector<int64_t> offsets{0};
};

/// One window's inputs and targets, one of each a token, as the protocol scores them.
void append_window(const EvaluationProtocol& p, int64_t number, std::span<const int32_t> text,
                   Pass& pass) {
  std::vector<int32_t> ids{p.bos_id};
  ids.insert(ids.end(), text.begin(), text.end() - 1);
  // The first window scores all; a later one, unless the overlap is scored, only what is new. In
  // parallel windows only the query's tokens see all of the context.
  int64_t seen = number == 0 || p.overlap == Overlap::scored ? 0 : p.context_length - stride_of(p);
  if (p.parallel) seen = std::max(seen, p.context_length - p.parallel->query);
  std::vector<int32_t> targets(text.begin(), text.end());
  std::fill_n(targets.begin(), seen, -1);
  if (const auto windows = windows_of(p)) {
    ids = with_window_starts(ids, *windows, p.bos_id);
    targets = with_window_starts(targets, *windows, -1);
  }
  pass.ids.insert(pass.ids.end(), ids.begin(), ids.end());
  pass.targets.insert(pass.targets.end(), targets.begin(), targets.end());
  pass.offsets.push_back(static_cast<int64_t>(pass.ids.size()));
}

Pass make_pass(const EvaluationProtocol& p, const TokenReader& read, int64_t first_window,
               int64_t windows) {
  Pass pass;
  std::vector<int32_t> text(static_cast<size_t>(p.context_length));
  for (int64_t w = first_window; w < first_window + windows; ++w) {
    read(w * stride_of(p), text);
    append_window(p, w, text, pass);
  }
  return pass;
}

/// Adds what this rank's tokens (T) lost to the bucket of each. Buckets are equal parts of what can
/// be scored.
void add_losses(const EvaluationProtocol& p, std::span<const int32_t> targets,
                std::span<const int64_t> positions, const HostLosses& losses,
                std::vector<LossSum>& buckets) {
  const int64_t first = windows_of(p).value_or(ParallelWindows{}).query_begin;
  const int64_t scored =
      p.parallel ? std::min(p.parallel->query, p.context_length) : p.context_length;
  for (size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] < 0) continue;
    buckets[static_cast<size_t>((positions[t] - first) * p.buckets / scored)] +=
        LossSum{static_cast<double>(losses.losses[t]), 1, losses.hits[t]};
  }
}

void require(bool condition, const std::string& problem, const std::string& why,
             const std::string& what_to_try) {
  if (!condition) throw UsageError(message(problem, why, what_to_try));
}

}  // namespace

void validate(const EvaluationProtocol& p) {
  require(p.context_length > 0, concat("the context length is ", p.context_length),
          "a window has at least one token", "Use --context-lengths 128,512,1K.");
  require(p.stride >= 0 && p.stride <= p.context_length,
          concat("the stride ", p.stride, " exceeds the context length"),
          concat("windows of ", p.context_length, " tokens would leave gaps"),
          "Use a stride of at most that.");
  require(p.buckets > 0, concat("there are ", p.buckets, " position buckets"),
          "a loss belongs to one of them", "Use 4.");
  if (p.parallel) validate(*p.parallel);
}

std::optional<ParallelWindows> windows_of(const EvaluationProtocol& p) {
  if (!p.parallel) return std::nullopt;
  return parallel_windows(*p.parallel, p.context_length, true);
}

double ContextLoss::perplexity() const { return std::exp(mean()); }

int64_t window_count(const EvaluationProtocol& p, int64_t stream_tokens) {
  require(stream_tokens >= p.context_length,
          concat("the context length ", p.context_length, " is longer than the data"),
          concat("there are ", stream_tokens, " tokens"), "Use a shorter length or more text.");
  const int64_t all = (stream_tokens - p.context_length) / stride_of(p) + 1;
  return p.windows == 0 ? all : std::min(all, p.windows);
}

int64_t windows_per_pass(const EvaluationProtocol& p, int64_t windows, int64_t groups) {
  // No group waits for another's last pass longer than it must.
  return std::min(std::max<int64_t>(1, p.tokens_per_pass / p.context_length),
                  (windows + groups - 1) / groups);
}

ContextLoss evaluate_context(Transformer& model, Placement& placement,
                             const EvaluationProtocol& protocol, int64_t stream_tokens,
                             const TokenReader& read, const RotaryTables& rotary,
                             const EvaluationProgress& progress) {
  validate(protocol);
  ContextLoss result;
  result.protocol = protocol;
  result.windows = window_count(protocol, stream_tokens);
  const int64_t groups = placement.data_ranks();
  const int64_t together = windows_per_pass(protocol, result.windows, groups);
  const int64_t layers = model.config().num_hidden_layers;
  std::vector<LossSum> sums(static_cast<size_t>(protocol.buckets));
  LastRotaryTable table(rotary);
  for (int64_t first = placement.data_rank() * together; first < result.windows;
       first += groups * together) {
    const Pass pass = make_pass(protocol, read, first, std::min(together, result.windows - first));
    const PlacedTokens& mine = placement.place(pass.offsets);
    const std::vector<int32_t> targets = mine.pick(pass.targets, -1);
    // Groups are about as far as this one: a round of passes is counted as one.
    const int64_t round = first / (groups * together) * groups * together;
    const int64_t windows = std::min(result.windows - round, groups * together);
    const auto report = [&](int64_t steps) {
      if (!progress) return;
      const int64_t tokens = windows * protocol.context_length;
      progress(round * protocol.context_length + tokens * steps / (layers + 1),
               result.windows * protocol.context_length);
    };
    const HostLosses losses = model.evaluate(mine.pick(pass.ids, 0), targets,
                                             table.at(mine.positions), *mine.attention, report);
    add_losses(protocol, targets, mine.positions, losses, sums);
    report(layers + 1);
  }
  placement.sum(sums);
  for (const LossSum& sum : sums) result.total += sum;
  result.buckets = std::move(sums);
  return result;
}

}  // namespace ringbolt
