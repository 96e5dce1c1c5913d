#include "apps/bench_ring.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/quantity.h"
#include "io/table.h"
#include "parallel/bench_attention.h"
#include "parallel/device_communicator.h"
#include "parallel/measure_rates.h"

namespace ringbolt {
namespace {

/// The share of a pass's transfers that attention hid: measured waits against what the transfers
/// take when nothing runs beside them.
double hidden_share(double exposed, double alone) {
  return alone > 0 ? std::clamp(1 - exposed / alone, 0.0, 1.0) : 1.0;
}

struct Row {
  const AttentionCandidate& predicted;
  const AttentionCandidate& alone;  // without overlap
  const AttentionTiming& measured;

  void add_to(Table& table) const {
    const double exposed = measured.forward.exposed_seconds + measured.backward.exposed_seconds;
    table.add_row({predicted.str(), fixed(measured.forward.seconds * 1e3, 2),
                   fixed(predicted.forward.seconds * 1e3, 2),
                   fixed(measured.backward.seconds * 1e3, 2),
                   fixed(predicted.backward.seconds * 1e3, 2), fixed(exposed * 1e3, 2),
                   fixed(100 * share(), 0) + "%",
                   format_bytes(measured.forward.bytes + measured.backward.bytes)});
  }

  /// How many times as fast as `seconds`.
  double speed_up(double seconds) const {
    return seconds / (measured.forward.seconds + measured.backward.seconds);
  }

  Json json(const AttentionJob& job) const {
    const auto pass = [](const PassTiming& timing, const PassCost& cost) {
      return Json::object()
          .set("median_seconds", timing.seconds)
          .set("predicted_seconds", cost.seconds)
          .set("exposed_seconds", timing.exposed_seconds)
          .set("bytes", timing.bytes);
    };
    return Json::object()
        .set("name", predicted.str())
        .set("tokens", job.tokens)
        .set("head_dim", job.head_dim)
        .set("dtype", name_of(job.dtype))
        .set("ranks", job.ranks)
        .set("forward", pass(measured.forward, predicted.forward))
        .set("backward", pass(measured.backward, predicted.backward))
        .set("hidden_share", share());
  }

 private:
  double share() const {
    return hidden_share(measured.forward.exposed_seconds + measured.backward.exposed_seconds,
                        alone.forward.exposed_seconds + alone.backward.exposed_seconds);
  }
};

std::string rates_line(const MachineRates& rates) {
  return concat("measured: attention ", fixed(rates.forward_flops / 1e9, 1), " GFLOP/s forward, ",
                fixed(rates.backward_flops / 1e9, 1), " backward a rank; link ",
                fixed(rates.inner.bytes_per_second / 1e9, 3), " GB/s, ",
                fixed(rates.inner.latency_seconds * 1e6, 1), " us, ",
                fixed(100 * rates.inner.overlap, 0), "% of it beside attention\n");
}

/// The same job on rank 0 alone, while the others wait; seconds forward and backward, on rank 0.
double seconds_of_one_rank(const AttentionJob& job, const RingBench& bench, Backend& backend,
                           Communicator& world) {
  double seconds = 0;
  world.barrier();
  if (world.rank() == 0) {
    const auto single = make_single_communicator();
    const auto alone = make_device_communicator(*single, backend);
    AttentionJob whole = job;
    whole.ranks = 1;
    const AttentionTiming timing =
        time_attention(backend, *alone, whole, bench.layout, {}, {}, bench.seconds);
    seconds = timing.forward.seconds + timing.backward.seconds;
  }
  world.barrier();
  return seconds;
}

void bench_job(const AttentionJob& job, const RingBench& bench, Backend& backend,
               Communicator& world, RankReport& report) {
  const MachineRates rates = measure_rates(backend, world, job);
  MachineRates serial = rates;
  serial.inner.overlap = serial.outer.overlap = 0;
  const AttentionPlan plan = plan_attention(job, rates);
  Table table({"strategy", "forward ms", "predicted", "backward ms", "predicted", "exposed ms",
               "hidden", "received"});
  const double alone_seconds = bench.one_rank ? seconds_of_one_rank(job, bench, backend, world) : 0;
  std::string gains;
  for (const AttentionCandidate& candidate : plan.candidates) {
    const AttentionTiming measured = time_attention(
        backend, world, job, bench.layout, candidate.mesh, candidate.choice, bench.seconds);
    const AttentionCandidate alone =
        predict_attention(job, serial, candidate.mesh, candidate.choice);
    const Row row{candidate, alone, measured};
    row.add_to(table);
    Json json = row.json(job);
    if (bench.one_rank) {
      json.set("one_rank_seconds", alone_seconds)
          .set("speed_up_over_one_rank", row.speed_up(alone_seconds));
      gains += concat(gains.empty() ? "" : ", ", candidate.str(), " ",
                      fixed(row.speed_up(alone_seconds), 3));
    }
    report.rows.push_back(std::move(json));
  }
  report.text +=
      concat(format_count(job.tokens), " tokens on ", job.ranks, " ranks, ", name_of(bench.layout),
             ", H ", job.heads, ", K ", job.kv_heads, ", D ", job.head_dim, ", ",
             name_of(job.dtype), "\n", rates_line(rates), plan.reason(), "\n\n", table.str(), "\n");
  if (bench.one_rank) {
    report.text += concat("rank 0 alone: ", fixed(alone_seconds * 1e3, 2),
                          " ms forward and backward; times as fast: ", gains, "\n\n");
  }
}

}  // namespace

RankReport bench_ring(const RingBench& bench, Backend& backend, Communicator& world) {
  RankReport report;
  for (const DType dtype : bench.dtypes) {
    for (const int64_t tokens : bench.lengths) {
      for (const int64_t head_dim : bench.head_dims) {
        const AttentionJob job{.tokens = tokens,
                               .heads = bench.heads,
                               .kv_heads = bench.kv_heads,
                               .head_dim = head_dim,
                               .dtype = dtype,
                               .mask = AttentionSlice::Mask::causal,
                               .ranks = world.size()};
        bench_job(job, bench, backend, world, report);
      }
    }
  }
  return report;
}

}  // namespace ringbolt
