#include "apps/plan_rates.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <vector>

#include "apps/rank_device.h"
#include "core/base/error.h"
#include "core/bench/rowwise.h"
#include "core/bench/workloads.h"
#include "core/model/head.h"
#include "core/model/pieces.h"
#include "io/table.h"
#include "parallel/measure_rates.h"

namespace ringbolt {
namespace {

constexpr double kSeconds = 0.1;  // of each measurement

/// FLOP/s of a matrix (out, in) at work: forward, input gradient and weight gradient over `tokens`.
double product_rate(Backend& backend, int64_t tokens, int64_t out, int64_t in, DType dtype) {
  const std::array<MatmulCase, 3> cases{
      {{"forward", tokens, out, in, Transpose::no, Transpose::yes},
       {"input gradient", tokens, in, out, Transpose::no, Transpose::no},
       {"weight gradient", out, in, tokens, Transpose::yes, Transpose::no}}};
  double flops = 0;
  double seconds = 0;
  for (const MatmulCase& shape : cases) {
    const BenchResult result =
        bench_matmul(backend, shape, dtype, kSeconds, [](DType) { return 1.0; });
    flops += result.flops;
    seconds += result.timing.median_seconds;
  }
  return flops / seconds;
}

/// Of a model's feed-forward, attention's projections and head, as it mixes them, with the rows
/// that pass them at a time.
double matmul_rate(Backend& backend, const ModelConfig& m, DType dtype, int64_t tokens) {
  struct Matrix {
    int64_t out, in, rows, count;
  };
  const int64_t rows = std::min(tokens, kPieceTokens);
  const int64_t chunk = std::min(tokens, head_chunk_tokens(m.vocab_size));
  const int64_t e = m.hidden_size;
  double flops = 0;
  double seconds = 0;
  for (const Matrix& x : {Matrix{2 * m.intermediate_size, e, rows, m.num_hidden_layers},
                          Matrix{e, m.intermediate_size, rows, m.num_hidden_layers},
                          Matrix{m.query_width(), e, rows, 2 * m.num_hidden_layers},
                          Matrix{2 * m.key_value_width(), e, rows, m.num_hidden_layers},
                          Matrix{m.vocab_size, e, chunk, 1}}) {
    const double work = static_cast<double>(x.out * x.in * x.count);
    flops += work;
    seconds += work / product_rate(backend, x.rows, x.out, x.in, dtype);
  }
  return flops / seconds;
}

}  // namespace

void RateOptions::declare(OptionSet& options) {
  options.group("Times (a rate is one device's, as measured by ringbolt bench)");
  options.flag("measure", measure,
               "Measures this machine, with --local-ranks ranks at work, and predicts for it");
  options.add("local-ranks", "N", local_ranks, "Ranks of this machine, all at work in --measure")
      .at_least(1);
  options.add("threads", "N", device.threads, "CPU threads of a measured rank; 0: its share")
      .at_least(0);
  options.add("matmul-rate", "TFLOPS", products, "Of large matrix products").above(0);
  options.add("attention-rate", "TFLOPS", attention_forward, "Of causal attention, forward")
      .above(0);
  options.add("attention-backward-rate", "TFLOPS", attention_backward, "And backward").above(0);
  options.add("copy-rate", "GB/S", copy, "Bytes that a copy in memory reads and writes").above(0);
  options.add("node-link", "GB/S", node_link, "Between ranks of a node, each way").above(0);
  options.add("network-link", "GB/S", network_link, "Of a rank to other nodes, each way").above(0);
  options.add("node-latency", "US", node_latency, "Of a message in a node").at_least(0);
  options.add("network-latency", "US", network_latency, "Of a message between nodes").at_least(0);
  options.add("launch-time", "US", launch, "Of a kernel, a step of the ring").at_least(0);
  for (const char* rate : {"matmul-rate", "attention-rate", "attention-backward-rate", "copy-rate",
                           "node-link", "network-link"})
    options.conflicts("measure", rate, "rates are measured or stated");
  options.add("ranks-per-node", "N", ranks_per_node, "Ranks of a node").at_least(1);
  for (const char* name : {"local-ranks", "threads"})
    options.needs(name, "measure", "ranks of this machine work for measurements only");
  for (const char* name : {"node-latency", "network-latency", "launch-time", "ranks-per-node"})
    options.needs(name, "matmul-rate", "times are predicted from all rates together");
}

bool RateOptions::wanted() const {
  return measure || products || attention_forward || attention_backward || copy || node_link ||
         network_link;
}

DeviceRates RateOptions::stated(int64_t ranks) const {
  std::string missing;
  const auto value = [&](const std::optional<double>& given, const char* name, double unit) {
    if (!given) missing += concat(missing.empty() ? "--" : ", --", name);
    return given.value_or(1) * unit;
  };
  DeviceRates rates{};
  rates.matmul_flops = value(products, "matmul-rate", 1e12);
  rates.attention.forward_flops = value(attention_forward, "attention-rate", 1e12);
  rates.attention.backward_flops = value(attention_backward, "attention-backward-rate", 1e12);
  rates.copy_bytes_per_second = value(copy, "copy-rate", 1e9);
  rates.attention.launch_seconds = launch * 1e-6;
  rates.attention.ranks_per_node = static_cast<int>(ranks_per_node);
  rates.attention.inner = rates.attention.outer = {std::numeric_limits<double>::infinity(), 0};
  if (ranks > 1 && ranks_per_node > 1)
    rates.attention.inner = {value(node_link, "node-link", 1e9), node_latency * 1e-6};
  if (ranks > ranks_per_node)
    rates.attention.outer = {value(network_link, "network-link", 1e9), network_latency * 1e-6};
  if (missing.empty()) return rates;
  throw UsageError(
      message(concat("times need ", missing),
              "a step is predicted from all rates of a device and its links",
              "Give them, or --measure for this machine's, or none for memory alone."));
}

DeviceRates RateOptions::measured(const ModelConfig& model, DType dtype,
                                  int64_t context_length) const {
  DeviceRates result{};
  run_on_ranks("plan", {local_ranks, 60}, [&](Communicator& world) {
    const auto backend = device.make_backend(local_ranks);
    const AttentionJob job{.tokens = context_length,
                           .heads = model.num_attention_heads,
                           .kv_heads = model.num_key_value_heads,
                           .head_dim = model.head_dim,
                           .dtype = dtype,
                           .ranks = world.size()};
    DeviceRates mine{};
    const auto tensors =
        make_tensor_communicator("plan", device, {local_ranks, 60}, world, *backend);
    mine.attention = measure_rates(*backend, *tensors, job);
    const int64_t tokens = std::max<int64_t>(1, context_length / world.size());
    const RowwiseCase rows{std::min(tokens, kPieceTokens), model.hidden_size,
                           model.intermediate_size, model.num_attention_heads, model.vocab_size};
    std::array<double, 2> means{matmul_rate(*backend, model, dtype, tokens),
                                rowwise_rate(*backend, rows, dtype)};
    world.all_reduce(std::span<double>(means));
    mine.matmul_flops = means[0] / world.size();
    mine.copy_bytes_per_second = means[1] / world.size();
    if (world.rank() == 0) result = mine;
  });
  return result;
}

Json to_json(const DeviceRates& rates) {
  const auto link = [](const Link& l) {
    return Json::object()
        .set("bytes_per_second", l.bytes_per_second)
        .set("latency_seconds", l.latency_seconds)
        .set("overlap", l.overlap);
  };
  return Json::object()
      .set("matmul_flops", rates.matmul_flops)
      .set("attention_forward_flops", rates.attention.forward_flops)
      .set("attention_backward_flops", rates.attention.backward_flops)
      .set("copy_bytes_per_second", rates.copy_bytes_per_second)
      .set("launch_seconds", rates.attention.launch_seconds)
      .set("ranks_per_node", static_cast<int64_t>(rates.attention.ranks_per_node))
      .set("node_link", link(rates.attention.inner))
      .set("network_link", link(rates.attention.outer));
}

std::string describe(const DeviceRates& rates) {
  const auto tera = [](double rate) { return fixed(rate / 1e12, rate < 1e13 ? 3 : 0); };
  return concat("products ", tera(rates.matmul_flops), ", attention ",
                tera(rates.attention.forward_flops), " forward and ",
                tera(rates.attention.backward_flops), " backward TFLOP/s, memory ",
                fixed(rates.copy_bytes_per_second / 1e9, 1), " GB/s");
}

}  // namespace ringbolt
