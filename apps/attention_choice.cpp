#include "apps/attention_choice.h"

#include <algorithm>
#include <span>
#include <utility>

#include "core/base/error.h"
#include "io/table.h"
#include "parallel/cost_model.h"
#include "parallel/launch.h"
#include "parallel/measure_rates.h"

namespace ringbolt {
namespace {

/// Measured rates differ from run to run, and another strategy gives other roundings: the usual
/// ring stays where the gain is small, so that a run is repeated bit for bit.
constexpr double kWorthASwitch = 1.05;

bool can_travel(RingBackwardWord word, RingBackward side) {
  return word == RingBackwardWord::automatic ||
         (word == RingBackwardWord::queries) == (side == RingBackward::queries);
}

AttentionStrategy strategy_of(AttentionWord word) {
  switch (word) {
    case AttentionWord::double_ring:
      return AttentionStrategy::double_ring;
    case AttentionWord::all_gather:
      return AttentionStrategy::all_gather;
    case AttentionWord::automatic:
    case AttentionWord::ring:
      break;
  }
  return AttentionStrategy::ring;
}

/// As the options say; of the two sides of backward the one that moves fewer bytes.
AttentionChoice stated_choice(const MeshOptions& o, const MeshShape& mesh, const ModelConfig& model,
                              DType dtype) {
  AttentionChoice choice{strategy_of(o.attention), RingBackward::keys};
  if (choice.strategy == AttentionStrategy::all_gather) return choice;
  const AttentionChoice queries{choice.strategy, RingBackward::queries};
  if (o.backward == RingBackwardWord::queries) return queries;
  if (o.backward == RingBackwardWord::keys) return choice;
  constexpr int64_t kTokens = 4096;  // of a rank: bytes are in proportion to them
  const AttentionProblem problem{kTokens, model.num_attention_heads, model.num_key_value_heads,
                                 model.head_dim, dtype};
  const bool fewer = attention_bytes(mesh, problem, queries).backward <
                     attention_bytes(mesh, problem, choice).backward;
  return fewer ? queries : choice;
}

/// Rates within a node and between nodes, where the launcher says how many ranks a node has; the
/// same on all ranks.
MachineRates measure(const MeshShape& mesh, Communicator& world, Backend& backend,
                     const AttentionJob& job) {
  const std::unique_ptr<Communicator> sequence =
      world.split(world.rank() / mesh.sequence(), world.rank());
  const std::optional<Launch>& launch = find_launch();
  const int in_node = launch && launch->local_size > 0 ? launch->local_size : mesh.sequence();
  MachineRates rates;
  if (in_node > 1 && in_node < mesh.sequence() && mesh.sequence() % in_node == 0) {
    const std::unique_ptr<Communicator> inner =
        sequence->split(sequence->rank() / in_node, sequence->rank());
    const std::unique_ptr<Communicator> outer =
        sequence->split(sequence->rank() % in_node, sequence->rank());
    rates = measure_rates(backend, *inner, job);
    rates.outer = measure_link(backend, *outer);
    rates.ranks_per_node = in_node;
  } else {
    rates = measure_rates(backend, *sequence, job);
  }
  world.broadcast(std::as_writable_bytes(std::span(&rates, 1)), 0);
  return rates;
}

AttentionDecision strategy_for(const MeshOptions& options, const MeshShape& mesh,
                               Communicator& world, Backend& backend, const ModelConfig& model,
                               const AttentionUse& use) {
  AttentionDecision decision{mesh, stated_choice(options, mesh, model, use.dtype), ""};
  if (options.attention != AttentionWord::automatic || mesh.sequence() == 1) return decision;
  const AttentionJob job{.tokens = use.tokens,
                         .heads = model.num_attention_heads,
                         .kv_heads = model.num_key_value_heads,
                         .head_dim = model.head_dim,
                         .dtype = use.dtype,
                         .ranks = mesh.sequence()};
  const auto seconds = [&](const AttentionCandidate& c) {
    return use.purpose == StorePurpose::training ? c.seconds() : c.forward.seconds;
  };
  AttentionPlan plan = plan_attention(job, measure(mesh, world, backend, job));
  std::erase_if(plan.candidates, [&](const AttentionCandidate& c) {
    return (options.head_ranks && *options.head_ranks != c.mesh.head) ||
           !can_travel(options.backward, c.choice.backward);
  });
  if (plan.candidates.empty()) return decision;
  if (use.purpose == StorePurpose::inference) {
    std::stable_sort(plan.candidates.begin(), plan.candidates.end(),
                     [&](const auto& a, const auto& b) { return seconds(a) < seconds(b); });
  }
  const AttentionCandidate stated =
      predict_attention(job, plan.rates, {1, mesh.outer, mesh.inner, mesh.head}, decision.choice);
  const AttentionCandidate& best = plan.best();
  decision.reason = plan.reason();
  if (seconds(stated) <= kWorthASwitch * seconds(best)) {
    const double percent = 100 * (seconds(stated) / seconds(best) - 1);
    if (percent > 0) {
      decision.reason =
          concat("attention by ", stated.str(), ": ", best.str(), " would be ", fixed(percent, 1),
                 " % faster, which is within the measurement's error");
    }
    return decision;
  }
  decision.mesh = best.mesh;
  decision.mesh.data = mesh.data;
  decision.choice = best.choice;
  return decision;
}

}  // namespace

AttentionDecision decide_attention(const MeshOptions& options, const MeshShape& mesh,
                                   Communicator& world, Backend& backend, const ModelConfig& model,
                                   const AttentionUse& use) {
  require_attention_dtype(backend, use.computed_in);
  AttentionDecision decision = strategy_for(options, mesh, world, backend, model, use);
  decision.choice.dtype = use.computed_in;
  return decision;
}

std::string describe(const MeshOptions& options, const AttentionDecision& decision) {
  const MeshShape& mesh = decision.mesh;
  const std::string heads = mesh.head > 1 ? concat(", ", mesh.head, " head ranks") : "";
  return concat(mesh.world(), " ranks (", mesh.data, " data x ", mesh.sequence(), " sequence",
                heads, ", ", name_of(options.layout), ", ", name_of(decision.choice.strategy), ")");
}

Json to_json(const MeshOptions& options, const AttentionDecision& decision) {
  const MeshShape& mesh = decision.mesh;
  return Json::object()
      .set("world", mesh.world())
      .set("data", mesh.data)
      .set("sequence", mesh.sequence())
      .set("ring", mesh.ring())
      .set("inner", mesh.inner)
      .set("head", mesh.head)
      .set("layout", name_of(options.layout))
      .set("attention", name_of(decision.choice.strategy))
      .set("ring_backward", name_of(decision.choice.backward))
      .set("shard_state", name_of(options.shard_state))
      .set("reason", decision.reason);
}

Json with_decision(Json options, const AttentionDecision& decision) {
  if (decision.reason.empty()) return options;
  options.set("attention", name_of(decision.choice.strategy))
      .set("ring-backward", name_of(decision.choice.backward))
      .set("head-ranks", decision.mesh.head);
  if (decision.choice.strategy == AttentionStrategy::double_ring)
    options.set("inner-ranks", decision.mesh.inner);
  return options;
}

}  // namespace ringbolt
