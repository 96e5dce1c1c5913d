#include "parallel/cost_model.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace ringbolt {
namespace {

/// Of one rank, for one pass over all ring positions.
struct PassWork {
  double step_compute;   ///< seconds of a step
  double operand_bytes;  ///< of the block that travels
  double sum_bytes;      ///< of the sum behind it; 0 in forward
};

double transfer_seconds(const Link& link, double bytes, double messages = 1) {
  return bytes / link.bytes_per_second + messages * link.latency_seconds;
}

/// Attention and transfers side by side, as far as the link can.
double beside(const Link& link, double compute, double transfer) {
  return compute + transfer - link.overlap * std::min(compute, transfer);
}

/// What a ring does of its own block's work at once; the rest beside the last sum (ring.h).
enum class OwnWork { whole, halved };

/// Steps of a ring as ring_visit and ring_accumulate run them: the block leaves before a step, and
/// the sum of step s - 1 travels during step s. `step` is what a step computes.
double ring_seconds(int size, const Link& link, double step, double operand_bytes, double sum_bytes,
                    OwnWork own) {
  if (size == 1) return step;
  const double operand = transfer_seconds(link, operand_bytes);
  const double sum = sum_bytes > 0 ? transfer_seconds(link, sum_bytes) : 0;
  const double at_once = own == OwnWork::halved && sum_bytes > 0 ? step / 2 : step;
  double total = beside(link, at_once, operand) + beside(link, step - at_once, sum);
  for (int s = 1; s < size; ++s) {
    total += beside(link, step, (s + 1 < size ? operand : 0) + (s >= 2 ? sum : 0));
  }
  return total;
}

/// Axes of a mesh are nested: head ranks are neighbours, then the inner ring, then the outer one.
const Link& link_of_axis(const MachineRates& rates, int stride, int size) {
  return stride * size > rates.ranks_per_node ? rates.outer : rates.inner;
}

PassCost ring_pass(const MachineRates& rates, const MeshShape& mesh, const AttentionChoice& choice,
                   const PassWork& work) {
  const int ring = mesh.ring();
  const double bytes = (ring - 1) * (work.operand_bytes + work.sum_bytes);
  const double compute = ring * work.step_compute;
  PassCost cost{0, compute, 0, bytes};
  if (choice.strategy == AttentionStrategy::all_gather && ring > 1) {
    const double messages = (ring - 1) * (work.sum_bytes > 0 ? 2.0 : 1.0);
    cost.exposed_seconds = transfer_seconds(link_of_axis(rates, mesh.head, ring), bytes, messages);
    cost.seconds = compute + rates.launch_seconds + cost.exposed_seconds;
    return cost;
  }
  const double step = work.step_compute + rates.launch_seconds;
  if (choice.strategy == AttentionStrategy::double_ring) {
    const double inner = ring_seconds(mesh.inner, link_of_axis(rates, mesh.head, mesh.inner), step,
                                      work.operand_bytes, work.sum_bytes, OwnWork::halved);
    cost.seconds = ring_seconds(mesh.outer, link_of_axis(rates, mesh.head * mesh.inner, mesh.outer),
                                inner, work.operand_bytes, work.sum_bytes, OwnWork::whole);
  } else {
    cost.seconds = ring_seconds(ring, link_of_axis(rates, mesh.head, ring), step,
                                work.operand_bytes, work.sum_bytes, OwnWork::halved);
  }
  cost.exposed_seconds = std::max(0.0, cost.seconds - ring * step);  // not a rounding below 0
  return cost;
}

void add_trade(const MachineRates& rates, const MeshShape& mesh, double bytes, int collectives,
               PassCost& cost) {
  if (mesh.head == 1) return;
  const double seconds =
      transfer_seconds(link_of_axis(rates, 1, mesh.head), bytes, collectives * (mesh.head - 1));
  cost.seconds += seconds;
  cost.exposed_seconds += seconds;
  cost.bytes += bytes;
}

std::string microseconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 1e-2 ? "%.0f us" : "%.4g ms",
                seconds * (seconds < 1e-2 ? 1e6 : 1e3));
  return text;
}

/// Ring, gather and head ranks are kinds that the reason compares; layouts of one kind are not
/// news.
bool same_kind(const AttentionCandidate& a, const AttentionCandidate& b) {
  return a.choice.strategy == b.choice.strategy && a.mesh.head == b.mesh.head &&
         a.mesh.ring() == b.mesh.ring();
}

}  // namespace

AttentionCandidate predict_attention(const AttentionJob& job, const MachineRates& rates,
                                     const MeshShape& mesh, const AttentionChoice& choice) {
  const auto ring = static_cast<double>(mesh.ring());
  const double element = static_cast<double>(size_of(job.dtype));
  const double rows = static_cast<double>(job.tokens) / ring;
  const double heads = static_cast<double>(job.heads) / mesh.head;
  const double dim = static_cast<double>(job.head_dim);
  const double query = rows * heads * dim;
  const double key = rows * 2 * std::max(1.0, static_cast<double>(job.kv_heads) / mesh.head) * dim;
  const bool queries =
      choice.strategy != AttentionStrategy::all_gather && choice.backward == RingBackward::queries;
  const double pairs =
      rows * rows * (job.mask == AttentionSlice::Mask::causal ? 0.5 : 1.0);  // of a step

  AttentionCandidate candidate{.mesh = mesh, .choice = choice, .forward = {}, .backward = {}};
  const PassWork forward{pairs * 4 * dim * heads / rates.forward_flops, key * element, 0};
  const PassWork backward{pairs * 10 * dim * heads / rates.backward_flops,
                          queries ? 2 * query * element + 2 * rows * heads * 4 : key * element,
                          (queries ? query : key) * 4};
  candidate.forward = ring_pass(rates, mesh, choice, forward);
  candidate.backward = ring_pass(rates, mesh, choice, backward);

  // A rank's share of what head ranks trade: all but its own U-th part.
  const double others = (mesh.head - 1) / static_cast<double>(mesh.head);
  const double statistic = rows * heads * 4;
  const bool replicated = job.kv_heads < mesh.head;
  add_trade(rates, mesh, others * ((2 * query + key) * element + statistic), 4, candidate.forward);
  add_trade(
      rates, mesh,
      others * ((3 * query + key) * element + 2 * statistic + key * (replicated ? 4 : element)), 7,
      candidate.backward);

  candidate.step_compute_seconds = forward.step_compute;
  if (mesh.ring() > 1 && choice.strategy != AttentionStrategy::all_gather) {
    const bool two = choice.strategy == AttentionStrategy::double_ring;
    const Link& inner = link_of_axis(rates, mesh.head, two ? mesh.inner : mesh.ring());
    const Link& outer = link_of_axis(rates, mesh.head, mesh.ring());
    candidate.step_transfer_seconds = transfer_seconds(two ? outer : inner, forward.operand_bytes);
    const double inner_seconds =
        two && mesh.inner == 1 ? 0 : transfer_seconds(inner, forward.operand_bytes);
    candidate.hidden =
        inner_seconds <= forward.step_compute &&
        (!two || candidate.step_transfer_seconds <= mesh.inner * forward.step_compute);
  }
  return candidate;
}

double rows_to_hide(const AttentionJob& job, double forward_flops, double bytes_per_second) {
  const double g = static_cast<double>(job.kv_heads) / static_cast<double>(job.heads);
  const double causal = job.mask == AttentionSlice::Mask::causal ? 2 : 1;
  return causal * forward_flops / bytes_per_second * g * static_cast<double>(size_of(job.dtype)) /
         2;
}

AttentionPlan plan_attention(const AttentionJob& job, const MachineRates& rates) {
  AttentionPlan plan{{}, job, rates};
  const auto consider = [&](const MeshShape& mesh, AttentionStrategy strategy, RingBackward side) {
    plan.candidates.push_back(predict_attention(job, rates, mesh, {strategy, side}));
  };
  for (int head = 1; head <= job.ranks; ++head) {
    const bool divides = job.ranks % head == 0 && job.heads % head == 0 &&
                         (job.kv_heads % head == 0 || head % job.kv_heads == 0);
    if (!divides) continue;
    const MeshShape single{.inner = job.ranks / head, .head = head};
    consider(single, AttentionStrategy::ring, RingBackward::keys);
    if (single.inner == 1) continue;
    consider(single, AttentionStrategy::ring, RingBackward::queries);
    consider(single, AttentionStrategy::all_gather, RingBackward::keys);
    const int in_node = rates.ranks_per_node / head;
    if (in_node < 2 || in_node >= single.inner || single.inner % in_node != 0) continue;
    const MeshShape two{.outer = single.inner / in_node, .inner = in_node, .head = head};
    consider(two, AttentionStrategy::double_ring, RingBackward::keys);
    consider(two, AttentionStrategy::double_ring, RingBackward::queries);
  }
  const auto worth = [](const AttentionCandidate& c) {
    return c.seconds() * (c.choice.strategy == AttentionStrategy::all_gather ? 1.02 : 1.0);
  };
  std::stable_sort(plan.candidates.begin(), plan.candidates.end(),
                   [&](const auto& a, const auto& b) { return worth(a) < worth(b); });
  return plan;
}

std::string AttentionCandidate::str() const {
  std::string text = mesh.head > 1 ? concat("all-to-all ", mesh.head) : "";
  if (mesh.ring() == 1) return mesh.head > 1 ? text : "one rank";
  if (!text.empty()) text += ", ";
  switch (choice.strategy) {
    case AttentionStrategy::ring:
      text += concat("ring ", mesh.ring());
      break;
    case AttentionStrategy::double_ring:
      text += concat("double ring ", mesh.outer, " x ", mesh.inner);
      break;
    case AttentionStrategy::all_gather:
      return text + concat("all-gather ", mesh.ring());
  }
  return choice.backward == RingBackward::queries ? text + ", queries in backward" : text;
}

std::string AttentionPlan::reason() const {
  const AttentionCandidate& first = best();
  std::string text =
      concat("attention by ", first.str(), ": forward ", microseconds(first.forward.seconds),
             ", backward ", microseconds(first.backward.seconds), " a layer");
  if (first.mesh.ring() > 1 && first.choice.strategy != AttentionStrategy::all_gather) {
    text += concat("; a block's transfer of ", microseconds(first.step_transfer_seconds),
                   first.hidden ? " hides behind " : " is longer than ",
                   microseconds(first.step_compute_seconds), " of attention",
                   first.choice.strategy == AttentionStrategy::double_ring
                       ? concat(" times ", first.mesh.inner)
                       : "");
  } else if (first.forward.exposed_seconds > 0) {
    text += concat("; ", microseconds(first.forward.exposed_seconds),
                   " of forward are transfers that nothing hides");
  }
  const auto next = std::find_if(candidates.begin(), candidates.end(),
                                 [&](const AttentionCandidate& c) { return !same_kind(first, c); });
  if (next == candidates.end()) return text;
  char percent[32];
  std::snprintf(percent, sizeof percent, "%.1f",
                100 * std::max(0.0, next->seconds() / first.seconds() - 1));
  return concat(text, "; next is ", next->str(), ", ", percent, " % slower");
}

std::string AttentionPlan::table() const {
  std::string text;
  char line[160];
  std::snprintf(line, sizeof line, "%-56s %12s %12s %12s %10s  %s\n", "strategy", "forward us",
                "backward us", "exposed us", "MiB", "hidden");
  text += line;
  for (const AttentionCandidate& c : candidates) {
    std::snprintf(line, sizeof line, "%-56s %12.1f %12.1f %12.1f %10.2f  %s\n", c.str().c_str(),
                  c.forward.seconds * 1e6, c.backward.seconds * 1e6,
                  (c.forward.exposed_seconds + c.backward.exposed_seconds) * 1e6,
                  (c.forward.bytes + c.backward.bytes) / (1 << 20), c.hidden ? "yes" : "no");
    text += line;
  }
  return text;
}

}  // namespace ringbolt
