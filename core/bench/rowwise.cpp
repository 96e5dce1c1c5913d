#include "core/bench/rowwise.h"

#include <algorithm>
#include <functional>

#include "core/base/random.h"
#include "core/bench/random_data.h"

namespace ringbolt {
namespace {

constexpr int kCalls = 10;  ///< between two waits: a wait costs as much as a short kernel

Tensor random_ids(Backend& backend, int64_t count, int64_t below) {
  const Philox random(9);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(random.bits(i) % static_cast<uint64_t>(below));
  }
  return upload_new(backend, DType::i32, {count}, ids.data());
}

/// Operands of every operation of one shape.
struct Operands {
  Operands(Backend& b, const RowwiseCase& s, DType dtype)
      : x(random_tensor(b, dtype, {s.tokens, s.hidden}, 1)),
        y(random_tensor(b, dtype, {s.tokens, s.hidden}, 2)),
        z(random_tensor(b, dtype, {s.tokens, s.hidden}, 17)),
        weight(random_tensor(b, dtype, {s.hidden}, 3)),
        gate_up(random_tensor(b, dtype, {s.tokens, 2 * s.ffn}, 4)),
        hidden(random_tensor(b, dtype, {s.tokens, s.ffn}, 5)),
        rstd(random_tensor(b, DType::f32, {s.tokens}, 6)),
        sums(random_tensor(b, DType::f32, {s.hidden}, 7)),
        f32(random_tensor(b, DType::f32, {s.tokens, s.hidden}, 8)),
        f32_sum(random_tensor(b, DType::f32, {s.tokens, s.hidden}, 18)),
        angles(random_tensor(b, DType::f32, {s.tokens, s.hidden / s.heads / 2}, 9)),
        delta(random_tensor(b, DType::f32, {s.tokens, s.heads}, 10)),
        table(random_tensor(b, dtype, {s.vocab, s.hidden}, 11)),
        dtable(random_tensor(b, DType::f32, {s.vocab, s.hidden}, 12)),
        ids(random_ids(b, s.tokens, s.vocab)) {}

  Tensor x, y, z, weight, gate_up, hidden, rstd, sums, f32, f32_sum, angles, delta, table, dtable,
      ids;
};

/// A workload and the bytes it must move.
struct Workload {
  std::string name;
  double bytes;
  std::function<void()> run;
};

std::vector<Workload> model_workloads(Backend& b, const RowwiseCase& s, DType dtype, Operands& o) {
  const auto a = static_cast<double>(size_of(dtype));
  const double hidden = static_cast<double>(s.tokens * s.hidden);
  const double ffn = static_cast<double>(s.tokens * s.ffn);
  const int64_t head_dim = s.hidden / s.heads;
  const double angles = static_cast<double>(s.tokens * head_dim) * 4;  // cos and sin
  const auto heads = [&s, head_dim](Tensor& x) {
    return x.view().reshape({s.tokens, s.heads, head_dim});
  };
  return {
      {"rms_norm_forward", 2 * hidden * a,
       [&] { b.rms_norm_forward(o.x, o.weight, 1e-5F, o.y, o.rstd); }},
      {"rms_norm_backward", 4 * hidden * a,
       [&] { b.rms_norm_backward(o.x, o.y, o.weight, o.rstd, o.z, o.sums); }},
      {"rotary half-split", 2 * hidden * a + angles,
       [&b, &o, heads] {
         b.rotary(heads(o.x), o.angles, o.angles, RotaryPairing::half_split,
                  RotaryDirection::forward);
       }},
      {"rotary interleaved", 2 * hidden * a + angles,
       [&b, &o, heads] {
         b.rotary(heads(o.x), o.angles, o.angles, RotaryPairing::interleaved,
                  RotaryDirection::forward);
       }},
      {"swiglu_forward", 3 * ffn * a, [&] { b.swiglu_forward(o.gate_up, o.hidden); }},
      {"swiglu_backward", 5 * ffn * a, [&] { b.swiglu_backward(o.hidden, o.gate_up); }},
      {"attention_delta", 2 * hidden * a,
       [&b, &o, heads] { b.attention_delta(heads(o.x), heads(o.y), o.delta); }},
      {"bias_backward", hidden * a, [&] { b.bias_backward(o.x, o.sums); }},
      {"embedding_forward", 2 * hidden * a, [&] { b.embedding_forward(o.table, o.ids, o.y); }},
      {"embedding_backward", hidden * (a + 8), [&] { b.embedding_backward(o.x, o.ids, o.dtable); }},
      {"convert to f32", hidden * (a + 4), [&] { b.convert(o.x, o.f32); }},
      {"convert from f32", hidden * (a + 4), [&] { b.convert(o.f32, o.x); }},
      {"add", hidden * 12, [&] { b.add(o.f32, o.f32_sum); }},
  };
}

/// Of the head and the optimizer, on buffers of their own.
struct TrainingOperands {
  TrainingOperands(Backend& b, const RowwiseCase& s, DType dtype)
      : chunk(std::clamp<int64_t>((int64_t{1} << 25) / s.vocab, 1, s.tokens)),
        logits(random_tensor(b, DType::f32, {chunk, s.vocab}, 13)),
        gradient(b.allocate(dtype, {chunk, s.vocab})),
        targets(random_ids(b, chunk, s.vocab)),
        losses(b.allocate(DType::f32, {chunk})),
        hits(b.allocate(DType::i32, {chunk})),
        n(s.hidden * s.ffn),
        master(random_tensor(b, DType::f32, {n}, 14)),
        m(random_tensor(b, DType::f32, {n}, 15)),
        v(b.allocate(DType::f32, {n})),
        slope(random_tensor(b, DType::f32, {n}, 16)),
        weight(b.allocate(dtype, {n})) {
    b.fill_zero(v);
  }
  int64_t chunk;
  Tensor logits, gradient, targets, losses, hits;
  int64_t n;
  Tensor master, m, v, slope, weight;
};

std::vector<Workload> training_workloads(Backend& b, const RowwiseCase& s, DType dtype,
                                         TrainingOperands& o) {
  const auto a = static_cast<double>(size_of(dtype));
  const double logits = static_cast<double>(o.chunk * s.vocab);
  const double n = static_cast<double>(o.n);
  const AdamWStep step{1e-3F, 0.9F, 0.95F, 1e-8F, 0.1F, 1.0F, 10};
  return {
      {"cross_entropy, no gradient", 4 * logits,
       [&b, &o] {
         b.cross_entropy({o.logits, o.targets, o.losses, o.hits, View()}, 0);
       }},
      {"cross_entropy",
       logits * (4 + 4 + a),  // the logits are read for the sum and for the gradient
       [&b, &o] {
         b.cross_entropy({o.logits, o.targets, o.losses, o.hits, o.gradient}, 1e-3F);
       }},
      {"sum_of_squares", 4 * n, [&b, &o] { static_cast<void>(b.sum_of_squares(o.slope)); }},
      {"adamw", n * (28 + (dtype == DType::f32 ? 4 : a)),
       [&b, &o, step] { b.adamw(step, o.slope, o.master, o.m, o.v, o.weight); }},
  };
}

/// Of one call, timed in groups of `calls`.
Timing time_calls(Backend& backend, const std::function<void()>& run, double seconds, int calls) {
  Timing t = time_repeatedly(
      [&] {
        for (int i = 0; i < calls; ++i) run();
        backend.synchronize();
      },
      seconds);
  for (double* value : {&t.median_seconds, &t.min_seconds, &t.max_seconds}) *value /= calls;
  return t;
}

std::vector<RowwiseResult> time_all(Backend& backend, const RowwiseCase& shape, DType dtype,
                                    double seconds, int calls) {
  std::vector<RowwiseResult> results;
  const auto run_all = [&](const std::vector<Workload>& workloads) {
    for (const Workload& w : workloads)
      results.push_back({w.name, dtype, time_calls(backend, w.run, seconds, calls), w.bytes, 0});
  };
  {
    Operands operands(backend, shape, dtype);
    run_all(model_workloads(backend, shape, dtype, operands));
  }
  {
    TrainingOperands operands(backend, shape, dtype);
    run_all(training_workloads(backend, shape, dtype, operands));
  }
  return results;
}

}  // namespace

std::vector<RowwiseResult> bench_rowwise(Backend& backend, const RowwiseCase& shape, DType dtype,
                                         double seconds) {
  const int64_t copied = shape.tokens * shape.hidden;  // as the operations' own tensors
  const Tensor from = backend.allocate(DType::f32, {copied});
  Tensor to = backend.allocate(DType::f32, {copied});
  const auto copy_rate = [&] {
    const auto copy = [&] { backend.convert(from, to); };
    return 8.0 * static_cast<double>(copied) /
           time_calls(backend, copy, seconds, kCalls).median_seconds;
  };
  const double before = copy_rate();
  std::vector<RowwiseResult> results = time_all(backend, shape, dtype, seconds, kCalls);
  const double rate = std::max(before, copy_rate());
  for (RowwiseResult& r : results) r.copy_bytes_per_second = rate;
  return results;
}

double rowwise_rate(Backend& backend, const RowwiseCase& shape, DType dtype) {
  double bytes = 0;
  double seconds = 0;
  for (const RowwiseResult& r : time_all(backend, shape, dtype, 0, 1)) {
    bytes += r.bytes;
    seconds += r.timing.median_seconds;
  }
  return bytes / seconds;
}

}  // namespace ringbolt
