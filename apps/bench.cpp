// ringbolt bench: matrix products, attention and training steps, each beside this machine's
// measured peak; attention over ranks beside its prediction.
#include <algorithm>
#include <iostream>
#include <optional>
#include <utility>

#include "apps/bench_forward.h"
#include "apps/bench_report.h"
#include "apps/bench_ring.h"
#include "apps/commands.h"
#include "apps/common_options.h"
#include "apps/mesh_options.h"
#include "apps/rank_device.h"
#include "apps/results.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/bench/layer_forward.h"
#include "core/bench/rowwise.h"
#include "core/bench/workloads.h"
#include "core/cpu/isa.h"
#include "core/cpu/peak.h"
#include "parallel/launch.h"
#include "rope/method.h"
#include "rope/table.h"

namespace ringbolt {
namespace {

enum class What { all, matmul, attention, rowwise, step, rotary, ring, forward };
const std::vector<std::pair<std::string, What>> kWhats{
    {"all", What::all},         {"matmul", What::matmul},  {"attention", What::attention},
    {"rowwise", What::rowwise}, {"step", What::step},      {"rotary", What::rotary},
    {"ring", What::ring},       {"forward", What::forward}};
enum class Dtypes { f32, bf16, both };
constexpr const char* kStepModel = "30m";

struct BenchOptions {
  What what = What::all;
  Dtypes dtypes = Dtypes::both;
  double seconds = 1.0;
  std::vector<int64_t> attention_lengths{4096, 16384};
  std::vector<int64_t> head_dims{64, 128};
  int64_t heads = 8;
  int64_t kv_heads = 8;
  std::optional<std::string> model;
  int64_t context_length = 2048;
  int64_t batch_size = 1;
  Recompute recompute = Recompute::none;
  bool cuda_graph = false;
  bool one_rank = false;
  AttentionDType attention_dtype = AttentionDType::model;
  MeshOptions mesh;
  DeviceOptions device;
  OutputOptions out;

  void declare(OptionSet& options) {
    options.group("What");
    options.choice<What>(
        "what", what, kWhats,
        "Which workloads; all is those of one rank, rowwise the row-wise operations beside a copy, "
        "rotary the table of a million positions, ring attention over ranks, forward a whole model "
        "over one sequence, as evaluate has it, on any ranks");
    options.choice<Dtypes>(
        "dtype", dtypes, {{"f32", Dtypes::f32}, {"bf16", Dtypes::bf16}, {"both", Dtypes::both}},
        "Types of inputs; bf16 is left out on a machine without such instructions");
    options.add("seconds", "S", seconds, "Time for each figure").above(0);
    options.group("Attention");
    options.add("attention-lengths", "LIST", attention_lengths, "Tokens of the causal sequence")
        .at_least(1);
    options.add("head-dims", "LIST", head_dims, "Dimensions of a head").at_least(2).at_most(256);
    options.add("heads", "N", heads, "Query heads").at_least(1);
    options.add("kv-heads", "N", kv_heads, "Key/value heads, a divisor of the heads").at_least(1);
    options.group("Training step and forward, and the shapes of matmul and rowwise");
    options.add("model", "SHAPE", model, "As in ringbolt train; rotary takes a layer of it")
        .by_default("30m, llama2-7b for rotary");
    options.add("context-length", "N", context_length, "Tokens of a sequence").at_least(1);
    options.add("batch-size", "N", batch_size, "Sequences of a step").at_least(1);
    options.choice<Recompute>("recompute", recompute,
                              {{"none", Recompute::none},
                               {"block", Recompute::block},
                               {"block-keep-attention", Recompute::block_keep_attention}},
                              "What backward computes again; not counted as work");
    options.flag("cuda-graph", cuda_graph,
                 "Times the step a second time, recorded as a CUDA graph and replayed: what the "
                 "host's launches cost. Wants --device cuda");
    declare_attention_dtype(options, attention_dtype);
    mesh.declare(options, StorePurpose::inference);
    options.flag(
        "one-rank", one_rank,
        "With --what ring: times the whole sequence on rank 0 alone, too, and what the ranks "
        "gain over it (1 is all that ranks on one GPU can)");
    device.declare(options);
    out.declare(options);
    options.example("bench");
    options.example(
        "bench --what attention --attention-lengths 4K --head-dims 64 --dtype bf16 --threads 2");
    options.example("bench --what ring --attention-lengths 16K --local-ranks 2 --dtype f32");
    options.example("bench --what rotary", "the share of a table in one layer's forward");
    options.example("bench --what step --model 30m --context-length 2K --json step.json");
    options.example("bench --what forward --model 30m --context-length 16K --dtype bf16",
                    "a long forward beside the floor that its attention sets it");
    options.example(
        "bench --what forward --model llama2-7b --context-length 1M --dtype bf16 --device cuda");
  }

  bool wants(What one) const {
    // A CPU's caches blur these; there they are asked for by name.
    if (one == What::rowwise && device.device == Device::cpu) return what == one;
    return what == one || (what == What::all && one != What::rotary && one != What::forward);
  }
  bool on_ranks() const { return what == What::ring || what == What::forward; }
};

std::vector<DType> dtypes_of(const BenchOptions& o) {
  const bool has_bf16 = o.device.device == Device::cuda ||
                        cpu::measure_peak(cpu::choose_isa(), DType::bf16, 0.01) > 0;
  if (o.dtypes == Dtypes::bf16 && !has_bf16) {
    throw DeviceError(message("there is no bf16 peak to compare with",
                              "this machine has no such instructions", "Use --dtype f32."));
  }
  if (o.dtypes == Dtypes::f32 || !has_bf16) return {DType::f32};
  if (o.dtypes == Dtypes::bf16) return {DType::bf16};
  return {DType::f32, DType::bf16};
}

ModelConfig step_config(const BenchOptions& o) {
  ModelConfig config = model_shape(o.model.value_or(kStepModel));
  config.max_position_embeddings = o.context_length;
  validate(config);
  return config;
}

/// Returns the median time, in seconds.
double bench_step(const BenchOptions& o, Backend& backend, DType dtype, const PeakMeasure& peak,
                  bool recorded, BenchTable& report) {
  const ModelConfig config = step_config(o);
  const RotaryMethod method(config);
  const RotaryTables rotary = [&](std::span<const int64_t> positions) {
    return make_rotary_table(backend, method, positions);
  };
  const StepBench step =
      bench_training_step(backend, {config, o.context_length, o.batch_size, o.recompute, recorded},
                          dtype, o.seconds, peak, rotary);
  Json& row = report.add(step.result);
  row.set("tokens_per_second", step.tokens_per_second)
      .set("causal_flops", step.flops.causal)
      .set("full_flops", step.flops.full)
      .set("peak_bytes", step.peak_bytes);
  report.note(concat(step.result.name, ", ", name_of(dtype), ": ",
                     format_rate(step.tokens_per_second), " tokens/s, peak memory of tensors ",
                     format_bytes(step.peak_bytes), "; attention counted in full: ",
                     fixed(step.flops.full / step.result.timing.median_seconds / 1e9, 1),
                     " GFLOP/s"));
  return step.result.timing.median_seconds;
}

void bench_steps(const BenchOptions& o, Backend& backend, DType dtype, const PeakMeasure& peak,
                 BenchTable& report) {
  const double plain = bench_step(o, backend, dtype, peak, false, report);
  if (!o.cuda_graph) return;
  const double replayed = bench_step(o, backend, dtype, peak, true, report);
  report.note(concat("the step as a CUDA graph takes ", fixed(100 * replayed / plain, 1),
                     "% of its time, ", name_of(dtype)));
}

/// Row-wise operations at a layer's widths, beside a copy of memory.
void bench_memory(const BenchOptions& o, Backend& backend, DType dtype, BenchTable& report) {
  const ModelConfig config = step_config(o);
  const RowwiseCase shape{o.batch_size * o.context_length, config.hidden_size,
                          config.intermediate_size, config.num_attention_heads, config.vocab_size};
  for (const RowwiseResult& r : bench_rowwise(backend, shape, dtype, o.seconds)) report.add(r);
}

/// The rotary table of a million positions, beside the time of one layer's forward there.
void bench_rotary(const BenchOptions& o, Backend& backend, BenchTable& report) {
  constexpr int64_t kPositions = int64_t{1} << 20;
  const std::string name = o.model.value_or("llama2-7b");
  const ModelConfig config = model_shape(name);
  const RotaryMethod method(config);
  const std::vector<int64_t> positions = sequence_positions(kPositions);
  const Timing timing = time_repeatedly(
      [&] { static_cast<void>(make_rotary_table(backend, method, positions)); }, o.seconds);
  report.note(concat("rotary table, ", format_grouped(kPositions), " positions of ",
                     config.head_dim / 2, " pairs: ", format_duration(timing.median_seconds)));
  for (const DType dtype : dtypes_of(o)) {
    const bool cpu = o.device.device == Device::cpu;
    const LayerForward layer = scaled_layer_forward(backend, config, kPositions, dtype, o.seconds,
                                                    cpu ? 512 : 8192, cpu ? 2048 : 32768);
    const double share = timing.median_seconds / layer.seconds();
    report.note(concat("one layer of ", name, " forward there, ", name_of(dtype), ": ",
                       format_duration(layer.seconds()),
                       " (scaled by FLOP: matrix products timed at ", layer.matrix_tokens,
                       " tokens, attention at ", layer.attention_tokens, "); the table takes ",
                       fixed(100 * share, 4), "% of it"));
    report.add_row(Json::object()
                       .set("name", "rotary table")
                       .set("dtype", name_of(dtype))
                       .set("model", name)
                       .set("positions", kPositions)
                       .set("median_seconds", timing.median_seconds)
                       .set("layer_forward_flops", layer.flops.matrices + layer.flops.attention)
                       .set("layer_forward_matrix_seconds", layer.matrix_seconds)
                       .set("layer_forward_attention_seconds", layer.attention_seconds)
                       .set("timed_matrix_tokens", layer.matrix_tokens)
                       .set("timed_attention_tokens", layer.attention_tokens)
                       .set("share_of_layer_forward", share));
  }
}

void bench_all(const BenchOptions& o, Backend& backend, BenchTable& report) {
  const auto cpu_peak = [](DType dtype) {
    return cpu::measure_peak(cpu::choose_isa(), dtype, kPeakSeconds);
  };
  const PeakMeasure peak = o.device.device == Device::cuda ? matmul_peak(backend) : cpu_peak;
  if (o.what == What::rotary) return bench_rotary(o, backend, report);
  const std::vector<DType> dtypes = dtypes_of(o);
  const auto attention_cases =
      static_cast<int64_t>(o.attention_lengths.size() * o.head_dims.size());
  int64_t total = 0;
  const std::vector<MatmulCase> products =
      o.wants(What::matmul) ? matmul_cases(step_config(o), o.batch_size * o.context_length)
                            : std::vector<MatmulCase>{};
  total += static_cast<int64_t>(products.size());
  if (o.wants(What::attention)) total += attention_cases;
  if (o.wants(What::rowwise)) total += 1;
  if (o.wants(What::step)) total += 1;
  total *= static_cast<int64_t>(dtypes.size());
  Progress progress("bench", total, "workloads", o.out.progress_output());
  int64_t done = 0;
  for (const DType dtype : dtypes) {
    for (const MatmulCase& shape : products) {
      report.add(bench_matmul(backend, shape, dtype, o.seconds, peak));
      progress.update(++done);
    }
    for (const int64_t length :
         o.wants(What::attention) ? o.attention_lengths : std::vector<int64_t>{}) {
      for (const int64_t head_dim : o.head_dims) {
        const AttentionCase shape{length, o.heads, o.kv_heads, head_dim};
        for (const BenchResult& r : bench_attention(backend, shape, dtype, o.seconds, peak))
          report.add(r);
        progress.update(++done);
      }
    }
    if (o.wants(What::rowwise)) {
      bench_memory(o, backend, dtype, report);
      progress.update(++done);
    }
    if (o.wants(What::step)) {
      bench_steps(o, backend, dtype, peak, report);
      progress.update(++done);
    }
  }
  progress.finish();
}

RankReport bench_attention_on_ranks(const BenchOptions& o, Backend& backend,
                                    Communicator& tensors) {
  const RingBench bench{.lengths = o.attention_lengths,
                        .head_dims = o.head_dims,
                        .heads = o.heads,
                        .kv_heads = o.kv_heads,
                        .dtypes = dtypes_of(o),
                        .layout = o.mesh.layout,
                        .seconds = o.seconds,
                        .one_rank = o.one_rank};
  return bench_ring(bench, backend, tensors);
}

RankReport bench_forward_on_ranks(const BenchOptions& o, Backend& backend, Communicator& world,
                                  Communicator& tensors) {
  ForwardBench bench{.name = o.model.value_or(kStepModel),
                     .config = step_config(o),
                     .dtypes = dtypes_of(o),
                     .attention_dtype = o.attention_dtype,
                     .seconds = o.seconds,
                     .mesh = o.mesh,
                     .device = o.device,
                     .progress = o.out.progress_output()};
  if (world.rank() != 0) bench.progress.mode = ProgressMode::none;
  return bench_forward(bench, backend, world, tensors);
}

/// Every rank computes; rank 0 returns what is reported.
RankReport bench_on_ranks(const BenchOptions& o) {
  RankReport report;
  run_on_ranks("bench", o.mesh.ranks, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = o.device.make_backend(o.mesh.ranks.local_ranks);
    const auto tensors = make_tensor_communicator("bench", o.device, o.mesh.ranks, world, *backend);
    RankReport mine = o.what == What::ring ? bench_attention_on_ranks(o, *backend, *tensors)
                                           : bench_forward_on_ranks(o, *backend, world, *tensors);
    mine.device = backend->description();
    mine.text = mine.device + " a rank\n\n" + mine.text;
    if (world.rank() == 0) report = std::move(mine);
  });
  return report;
}

void refuse_idle_ranks(const BenchOptions& o) {
  const std::optional<Launch>& launch = find_launch();
  const bool several =
      o.mesh.ranks.local_ranks > 1 || (launch && std::max(launch->size, launch->rank) > 1);
  if (several && !o.on_ranks()) {
    throw UsageError(message("cannot run on several ranks",
                             "each of them would measure the whole of bench again",
                             "Use --what ring or --what forward, or one rank."));
  }
}

/// Options that none of the workloads has a use for.
void refuse_idle_options(const BenchOptions& o, const OptionSet& options) {
  const std::vector<What> all{What::matmul, What::attention, What::rowwise, What::step};
  const auto runs = [&](What one) {
    return o.what == What::all ? std::count(all.begin(), all.end(), one) > 0 : o.what == one;
  };
  const auto used_by = [&](const std::vector<What>& whats, const std::vector<std::string>& names) {
    if (std::any_of(whats.begin(), whats.end(), runs)) return;
    std::string words;
    for (const auto& [word, what] : kWhats) {
      if (std::count(whats.begin(), whats.end(), what) > 0)
        words += (words.empty() ? "--what " : " or ") + word;
    }
    for (const std::string& name : names) {
      if (!options.is_given(name)) continue;
      throw UsageError(message(concat("--", name, " has no use"),
                               concat("only ", words, " takes it"),
                               concat("Add ", words, ", or leave it out.")));
    }
  };
  used_by({What::ring}, {"one-rank"});
  used_by({What::forward},
          {"attention", "sequence-ranks", "head-ranks", "inner-ranks", "attention-dtype"});
  used_by({What::ring, What::forward}, {"layout"});
  used_by({What::attention, What::ring}, {"attention-lengths", "head-dims", "heads", "kv-heads"});
  used_by({What::matmul, What::rowwise, What::step}, {"batch-size"});
  used_by({What::matmul, What::rowwise, What::step, What::forward}, {"context-length"});
  used_by({What::matmul, What::rowwise, What::step, What::rotary, What::forward}, {"model"});
  used_by({What::step}, {"recompute", "cuda-graph"});
  if (o.cuda_graph && o.device.device != Device::cuda) {
    throw UsageError(message("--cuda-graph does not go with --device cpu",
                             "only what a GPU is given can be recorded",
                             "Use --device cuda, or leave it out."));
  }
}

}  // namespace

int run_bench(const Arguments& arguments) {
  BenchOptions o;
  OptionSet options("bench",
                    "Times matrix products, causal attention (forward and backward) and whole "
                    "training steps: medians, and "
                    "their share of the floating-point peak that this machine shows beside them.");
  o.declare(options);
  if (!options.parse(arguments, std::cout)) return 0;
  refuse_idle_options(o, options);
  if (o.heads % o.kv_heads != 0) {
    throw UsageError(
        message(concat(o.heads, " heads cannot share ", o.kv_heads, " key/value heads"),
                "each serves the same number of query heads", "Choose a divisor for --kv-heads."));
  }
  if (o.wants(What::step) || o.wants(What::rowwise) || o.wants(What::matmul) ||
      o.wants(What::forward))
    static_cast<void>(step_config(o));
  refuse_idle_ranks(o);
  Json result = begin_result("bench");
  if (o.on_ranks()) {
    RankReport report = bench_on_ranks(o);
    const std::optional<Launch>& launch = find_launch();
    if (launch && launch->rank > 0) return 0;
    if (!json_is_output(o.out.json)) std::cout << report.text;
    result.set("device", report.device).set("results", Json(std::move(report.rows)));
    write_result(o.out.json, result);
    return 0;
  }

  const std::unique_ptr<Backend> backend = o.device.make_backend();
  BenchTable report;
  bench_all(o, *backend, report);
  if (!json_is_output(o.out.json)) std::cout << backend->description() << "\n\n" << report.text();
  result.set("device", backend->description()).set("results", report.json());
  write_result(o.out.json, result);
  return 0;
}

}  // namespace ringbolt
