#include "parallel/step_time.h"

#include <algorithm>

namespace ringbolt {
namespace {

constexpr double kF32 = 4;

/// A model's sizes as what is counted with.
struct Sizes {
  explicit Sizes(const ModelConfig& m)
      : e(static_cast<double>(m.hidden_size)),
        f(static_cast<double>(m.intermediate_size)),
        q(static_cast<double>(m.query_width())),
        kv(2 * static_cast<double>(m.key_value_width())),
        v(static_cast<double>(m.vocab_size)),
        layers(static_cast<double>(m.num_hidden_layers)) {}
  double e, f, q, kv, v, layers;
};

/// Of a token: forward, twice that backward, and what the policy does again (Block::restore and the
/// products before SwiGLU).
double product_flops(const Sizes& s, Recompute recompute) {
  const double layer = 2 * s.e * (2 * s.q + s.kv + 3 * s.f);
  const double again = recompute == Recompute::none ? 0 : 2 * s.e * (2 * s.q + s.kv + 2 * s.f);
  return s.layers * (3 * layer + again) + 3 * 2 * s.e * s.v;
}

/// Bytes of a token that row-wise operations read and write, elements of `a` bytes: forward (two
/// norms, rotary, SwiGLU), backward (each reads its operands and the gradient), and again.
double rowwise_bytes(const Sizes& s, double a, Recompute recompute) {
  const double norms = 2 * 2 * s.e;
  const double rotary = 2 * (s.q + s.kv / 2);
  const double swiglu = 3 * s.f;
  const double forward = norms + rotary + swiglu;
  const double backward = 2 * 4 * s.e + norms + rotary + 5 * s.f + swiglu;
  const double again = recompute == Recompute::none ? 0 : norms / 2 + rotary;
  const double kept = 2 * s.e;  // the layer's input
  // The logits' gradient takes their place, in f32 or beside them.
  const double logits = s.v * (2 * kF32 + a) + 8 * s.e * a;
  return s.layers * a * (forward + backward + again + kept) + logits;
}

/// Bytes of a parameter in AdamW: master, moments read and written, the gradient read twice (its
/// norm) and set to zero, the weight written.
double optimizer_bytes(double a) { return 6 * kF32 + 3 * kF32 + a; }

const Link& widest_link(const DeviceRates& rates, int ranks) {
  return ranks > rates.attention.ranks_per_node ? rates.attention.outer : rates.attention.inner;
}

AttentionJob job_of(const TrainingShape& c) {
  return {.tokens = c.context_length,
          .heads = c.model.num_attention_heads,
          .kv_heads = c.model.num_key_value_heads,
          .head_dim = c.model.head_dim,
          .dtype = c.dtype,
          .ranks = c.mesh.sequence()};
}

}  // namespace

StepTime predict_step(const TrainingShape& c, const DeviceRates& rates) {
  const Sizes sizes(c.model);
  const auto a = static_cast<double>(size_of(c.dtype));
  const auto batch = static_cast<double>(c.batch_size);
  const double tokens =
      batch * static_cast<double>(c.context_length) / static_cast<double>(c.mesh.sequence());
  MeshShape mesh = c.mesh;
  mesh.data = 1;
  const AttentionCandidate attention =
      predict_attention(job_of(c), rates.attention, mesh, c.attention);
  const double forwards = c.recompute == Recompute::block ? 2 : 1;
  const auto both = [&](double PassCost::*part) {
    return sizes.layers * batch * (forwards * (attention.forward.*part) + attention.backward.*part);
  };
  StepTime time;
  time.products = tokens * product_flops(sizes, c.recompute) / rates.matmul_flops;
  time.exposed = both(&PassCost::exposed_seconds);
  time.attention = both(&PassCost::seconds) - time.exposed;
  time.rowwise = tokens * rowwise_bytes(sizes, a, c.recompute) / rates.copy_bytes_per_second;
  const auto parameters = static_cast<double>(c.model.parameter_count());
  const int world = c.mesh.world();
  const double owned = c.sharding ? parameters / world : parameters;
  time.optimizer = owned * optimizer_bytes(a) / rates.copy_bytes_per_second;
  if (world > 1) {
    const Link& link = widest_link(rates, world);
    // Every rank sends each other one's piece; without sharding the sums come back in f32.
    const double others = (world - 1) / static_cast<double>(world);
    const double bytes = others * parameters * (kF32 + (c.sharding ? a : kF32));
    const double messages = 2 * (world - 1) * (sizes.layers + 2);
    time.reduction = bytes / link.bytes_per_second + messages * link.latency_seconds;
  }
  return time;
}

double StepCandidate::tokens_per_second() const {
  return static_cast<double>(shape.mesh.data * shape.batch_size * shape.context_length) /
         time.total();
}

std::vector<StepCandidate> plan_steps(const TrainingShape& c, int ranks, const DeviceRates& rates,
                                      std::optional<int64_t> available_bytes) {
  std::vector<StepCandidate> candidates;
  for (int sequence = 1; sequence <= ranks; ++sequence) {
    if (ranks % sequence != 0 || sequence > c.context_length) continue;
    TrainingShape shape = c;
    shape.mesh = {.data = ranks / sequence, .inner = sequence};
    for (const AttentionCandidate& attention :
         plan_attention(job_of(shape), rates.attention).candidates) {
      StepCandidate candidate{shape, {}, 0, attention.str()};
      candidate.shape.mesh = attention.mesh;
      candidate.shape.mesh.data = ranks / sequence;
      candidate.shape.attention = attention.choice;
      if (ranks == 1) candidate.shape.sharding.reset();
      candidate.time = predict_step(candidate.shape, rates);
      candidate.memory_bytes = training_memory(candidate.shape).total();
      candidates.push_back(std::move(candidate));
    }
  }
  const auto fits = [&](const StepCandidate& s) {
    return !available_bytes || s.memory_bytes <= *available_bytes;
  };
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](const StepCandidate& x, const StepCandidate& y) {
                     if (fits(x) != fits(y)) return fits(x);
                     return x.tokens_per_second() > y.tokens_per_second();
                   });
  return candidates;
}

}  // namespace ringbolt
