// ringbolt plan: what training or evaluation would need in memory, and how long training steps
// would take, before any GPU is asked for it.
#include <algorithm>
#include <iostream>

#include "apps/commands.h"
#include "apps/common_options.h"
#include "apps/plan_rates.h"
#include "apps/results.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/bench/workloads.h"
#include "io/table.h"
#include "parallel/memory_account.h"

namespace ringbolt {
namespace {

enum class Work { train, evaluate };

struct PlanOptions {
  Work work = Work::train;
  std::string model = "llama2-7b";
  std::vector<int64_t> lengths{4096, 16384, 131072, 1048576};
  std::vector<int64_t> ranks{1, 8, 64};
  int64_t batch_size = 1;
  DType dtype = DType::bf16;
  Recompute recompute = Recompute::block_keep_attention;
  ShardState sharding = ShardState::gradients;
  AttentionDType attention_dtype = AttentionDType::model;
  Device device = Device::cuda;
  double memory_gib = 0;
  bool all_strategies = false;
  RateOptions rates;
  OutputOptions out;

  void declare(OptionSet& options) {
    options.group("Run");
    options.choice<Work>("for", work, {{"train", Work::train}, {"evaluate", Work::evaluate}},
                         "Training steps, or a forward over one window, a layer at a time");
    options.add("model", "SHAPE", model, "As in ringbolt train");
    options.add("context-lengths", "LIST", lengths, "Tokens of a sequence").at_least(1);
    options.add("ranks", "LIST", ranks, "Ranks that share each sequence, and the training state")
        .at_least(1);
    options.add("batch-size", "N", batch_size, "Sequences of a micro-batch, or of a pass")
        .at_least(1);
    options.choice<DType>("dtype", dtype, {{"f32", DType::f32}, {"bf16", DType::bf16}},
                          "Type of weights and activations");
    declare_attention_dtype(options, attention_dtype);
    options.choice<Recompute>("recompute", recompute,
                              {{"none", Recompute::none},
                               {"block", Recompute::block},
                               {"block-keep-attention", Recompute::block_keep_attention}},
                              "What backward computes again");
    options.choice<ShardState>(
        "shard", sharding,
        {{"optimizer", ShardState::optimizer}, {"gradients", ShardState::gradients}},
        "What the ranks divide: masters and moments, or gradients, too");
    options.choice<Device>("device", device, {{"cpu", Device::cpu}, {"cuda", Device::cuda}},
                           "A GPU's libraries take memory of their own");
    options.add("memory", "GIB", memory_gib, "What a rank has: says what fits, and what would")
        .at_least(0);
    rates.declare(options);
    options.conflicts("measure", "ranks", "measured links are those of --local-ranks ranks");
    options.flag("all-strategies", all_strategies,
                 "Every way to divide the ranks, fastest first, not only the fastest that fits");
    out.declare(options);
    options.example("plan");
    options.example("plan --model llama2-13b --context-lengths 16K --ranks 8 --memory 139");
    options.example("plan --for evaluate --context-lengths 1M --ranks 1,8 --memory 79",
                    "whether a million tokens can be evaluated");
    options.example(
        "plan --ranks 1,8,64,1024 --memory 139 --matmul-rate 700 --attention-rate 600 "
        "--attention-backward-rate 500 --copy-rate 4000 --node-link 400 --network-link 50",
        "step times from a device's rates, and the fastest division of the ranks that fits");
    options.example(
        "plan --measure --local-ranks 2 --model 30m --dtype f32 "
        "--context-lengths 4K --device cpu --all-strategies",
        "the same for this machine's own rates");
  }
};

TrainingShape shape_of(const PlanOptions& o, int64_t length, int64_t ranks) {
  TrainingShape c;
  c.model = model_shape(o.model);
  c.dtype = o.dtype;
  c.context_length = length;
  c.batch_size = o.batch_size;
  c.recompute = o.recompute;
  c.mesh.inner = static_cast<int>(ranks);
  if (ranks > 1) c.sharding = o.sharding;
  // As train chooses: the side with fewer bytes travels in backward.
  const bool grouped = c.model.num_key_value_heads < c.model.num_attention_heads;
  c.attention.backward = grouped ? RingBackward::keys : RingBackward::queries;
  c.gpu = o.device == Device::cuda;
  return c;
}

/// What a row of the table of memory shows.
struct Need {
  MemoryAccount account;
  std::vector<std::string> ways;  ///< to fit, where it does not
};

Need training_need(const TrainingShape& c, int64_t available) {
  Need need{training_memory(c), {}};
  if (available > 0 && need.account.total() > available) need.ways = ways_to_fit(c, available);
  return need;
}

/// In the pieces that evaluate would take; it asks for smaller ones where the usual do not fit.
Need evaluation_need(const PlanOptions& o, int64_t length, int64_t ranks, int64_t available) {
  EvaluationShape c{.model = model_shape(o.model),
                    .dtype = o.dtype,
                    .context_length = length,
                    .windows = o.batch_size,
                    .mesh = {.inner = static_cast<int>(ranks)},
                    .gpu = o.device == Device::cuda};
  c.attention.dtype = o.attention_dtype;
  Need need;
  if (available > 0) {
    try {
      c.piece_tokens = piece_tokens_that_fit(c, available);
    } catch (const UsageError& error) {
      need.ways = {error.what()};
    }
  }
  need.account = evaluation_memory(c);
  return need;
}

Json to_json(int64_t length, int64_t ranks, const MemoryAccount& account) {
  Json bytes = Json::object();
  for (size_t kind = 0; kind < kMemoryKinds; ++kind) {
    bytes.set(name_of(static_cast<MemoryKind>(kind)), account.bytes[kind]);
  }
  return Json::object()
      .set("context_length", length)
      .set("ranks", ranks)
      .set("bytes", bytes)
      .set("total_bytes", account.total())
      .set("moment", account.moment);
}

std::string division(const MeshShape& mesh) {
  return concat(mesh.data, " data x ", mesh.sequence(), " sequence");
}

Json to_json(const StepCandidate& s) {
  const MeshShape& mesh = s.shape.mesh;
  return Json::object()
      .set("context_length", s.shape.context_length)
      .set("ranks", static_cast<int64_t>(mesh.world()))
      .set("data", mesh.data)
      .set("sequence", mesh.sequence())
      .set("outer", mesh.outer)
      .set("inner", mesh.inner)
      .set("head", mesh.head)
      .set("attention", s.attention)
      .set("seconds", Json::object()
                          .set("total", s.time.total())
                          .set("products", s.time.products)
                          .set("attention", s.time.attention)
                          .set("exposed", s.time.exposed)
                          .set("rowwise", s.time.rowwise)
                          .set("optimizer", s.time.optimizer)
                          .set("reduction", s.time.reduction))
      .set("tokens_per_second", s.tokens_per_second())
      .set("memory_bytes", s.memory_bytes);
}

/// Step times, a row a length and number of ranks: the fastest that fits, or all.
int plan_times(PlanOptions o) {
  if (o.rates.measure) o.ranks = {o.rates.local_ranks};
  std::optional<int64_t> available;
  if (o.memory_gib > 0) available = static_cast<int64_t>(o.memory_gib * 1073741824.0);
  const int64_t most = *std::max_element(o.ranks.begin(), o.ranks.end());
  const ModelConfig config = model_shape(o.model);
  Table table({"context", "ranks", "division", "attention", "step s", "tokens/s", "a rank",
               "model TFLOP/s", "exposed", "reduction", "memory", "fits"});
  Json rows = Json::array();
  DeviceRates rates{};
  for (const int64_t length : o.lengths) {
    rates = o.rates.measure ? o.rates.measured(config, o.dtype, length) : o.rates.stated(most);
    for (const int64_t ranks : o.ranks) {
      const auto candidates =
          plan_steps(shape_of(o, length, ranks), static_cast<int>(ranks), rates, available);
      for (const StepCandidate& s : candidates) {
        const double per_rank = s.tokens_per_second() / static_cast<double>(ranks);
        const double flops = training_flops(config, 1, length).causal / static_cast<double>(length);
        const bool fits = !available || s.memory_bytes <= *available;
        table.add_row({format_count(length), concat(ranks), division(s.shape.mesh), s.attention,
                       fixed(s.time.total(), 3),
                       format_count(static_cast<int64_t>(s.tokens_per_second())),
                       format_count(static_cast<int64_t>(per_rank)),
                       fixed(per_rank * flops / 1e12, per_rank * flops < 1e13 ? 3 : 0),
                       fixed(100 * s.time.exposed / s.time.total(), 1) + "%",
                       fixed(100 * s.time.reduction / s.time.total(), 1) + "%",
                       format_bytes(s.memory_bytes), available ? (fits ? "yes" : "no") : "-"});
        rows.push(to_json(s).set("fits", fits));
        if (!o.all_strategies) break;
      }
    }
  }
  if (!json_is_output(o.out.json)) {
    std::cout << o.model << ", " << format_grouped(config.parameter_count()) << " parameters, "
              << name_of(o.dtype) << ", " << o.batch_size << " sequences a data rank and step\n"
              << (o.rates.measure ? "measured here: " : "stated: ") << describe(rates) << "\n\n"
              << table.str();
  }
  Json result = begin_result("plan");
  result.set("model", o.model).set("rates", to_json(rates)).set("results", rows);
  write_result(o.out.json, result);
  return 0;
}

/// Throws: UsageError naming what was given that training does not have.
void check_training(const PlanOptions& o) {
  if (o.attention_dtype == AttentionDType::model) return;
  throw UsageError(message("--attention-dtype says nothing of --for train",
                           "attention in another type than the model's has no backward",
                           "Leave it out, or add --for evaluate."));
}

/// Throws: UsageError naming what was given that only training has.
void check_evaluation(const PlanOptions& o, const OptionSet& options) {
  for (const char* name : {"recompute", "shard", "all-strategies"}) {
    if (!options.is_given(name)) continue;
    throw UsageError(message(concat("--", name, " says nothing of --for evaluate"),
                             "it is a choice of training", "Leave it out."));
  }
  if (!o.rates.wanted()) return;
  throw UsageError(message("--for evaluate has no step times", "rates predict training steps",
                           "Leave the rates out for memory, or take --for train."));
}

}  // namespace

int run_plan(const Arguments& arguments) {
  PlanOptions o;
  OptionSet options("plan",
                    "Shows what training or evaluation would need in memory on each rank, by kind, "
                    "at the moment when most is live; with the rates of a device, what a training "
                    "step would take.");
  o.declare(options);
  if (!options.parse(arguments, std::cout)) return 0;

  if (o.work == Work::evaluate) check_evaluation(o, options);
  if (o.work == Work::train) check_training(o);
  if (o.all_strategies && !o.rates.wanted()) {
    throw UsageError(message("--all-strategies needs rates", "strategies differ in time",
                             "Add --measure, or --matmul-rate and the others (see --help)."));
  }
  if (o.rates.wanted()) return plan_times(o);
  const auto available = static_cast<int64_t>(o.memory_gib * 1073741824.0);
  std::vector<std::string> heads{"context", "ranks", "total"};
  for (size_t kind = 0; kind + 1 < kMemoryKinds; ++kind) {  // no cache in training
    heads.push_back(name_of(static_cast<MemoryKind>(kind)));
  }
  if (available > 0) heads.push_back("fits");
  Table table(heads);
  Json rows = Json::array();
  std::string advice;
  for (const int64_t length : o.lengths) {
    for (const int64_t ranks : o.ranks) {
      const Need need = o.work == Work::evaluate
                            ? evaluation_need(o, length, ranks, available)
                            : training_need(shape_of(o, length, ranks), available);
      const MemoryAccount& account = need.account;
      std::vector<std::string> row{format_count(length), concat(ranks),
                                   format_bytes(account.total())};
      for (size_t kind = 0; kind + 1 < kMemoryKinds; ++kind)
        row.push_back(format_bytes(account.bytes[kind]));
      const bool fits = account.total() <= available;
      if (available > 0) row.push_back(fits ? "yes" : "no");
      table.add_row(row);
      Json entry = to_json(length, ranks, account);
      if (available > 0) entry.set("fits", fits);
      rows.push(entry);
      for (const std::string& way : need.ways) {
        advice += concat(format_count(length), " tokens on ", ranks,
                         ranks == 1 ? " rank" : " ranks", ": ", way, "\n");
      }
    }
  }
  const ModelConfig config = model_shape(o.model);
  if (!json_is_output(o.out.json)) {
    std::cout << o.model << ", " << format_grouped(config.parameter_count()) << " parameters, "
              << name_of(o.dtype) << ", batch " << o.batch_size << "; bytes of one rank\n\n"
              << table.str() << (advice.empty() ? "" : "\nWould fit:\n" + advice);
  }
  Json result = begin_result("plan");
  result.set("model", o.model).set("results", rows);
  write_result(o.out.json, result);
  return 0;
}

}  // namespace ringbolt
