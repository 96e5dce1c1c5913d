// ringbolt evaluate: loss, perplexity and accuracy over context lengths, and how far theory says
// the model reaches.
#include <algorithm>
#include <iostream>
#include <optional>
#include <span>

#include "apps/attention_choice.h"
#include "apps/commands.h"
#include "apps/evaluate_options.h"
#include "apps/evaluate_setup.h"
#include "apps/ranks.h"
#include "apps/reach_plot.h"
#include "apps/results.h"
#include "apps/train_setup.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/evaluate/context_loss.h"
#include "io/model_json.h"
#include "io/table.h"
#include "parallel/launch.h"
#include "rope/scaling_laws.h"

namespace ringbolt {
namespace {

std::vector<ContextLoss> evaluate_all(const EvaluateOptions& o, RankedModel& model,
                                      const EvaluationData& data) {
  const TokenReader read = [&](int64_t begin, std::span<int32_t> out) {
    data.tokens.read(begin, out);
  };
  ProgressOutput output = o.out.progress_output();
  if (model.mesh.world().rank() != 0) output.mode = ProgressMode::none;
  std::vector<ContextLoss> results;
  for (const EvaluationProtocol& protocol : model.protocols) {
    const int64_t windows = window_count(protocol, data.tokens.tokens());
    const int64_t tokens = windows * protocol.context_length;
    Progress progress("context " + format_count(protocol.context_length), tokens, "tokens", output);
    const auto seen = windows_of(protocol);
    const int64_t reach =
        seen ? seen->longest() + protocol.parallel->query : protocol.context_length;
    const RotaryTables rotary = o.positions.map_positions(
        model.loaded.rotary(reach), protocol.context_length, model.loaded.config(), seen);
    results.push_back(evaluate_context(model.loaded.model(), *model.place(o, seen), protocol,
                                       data.tokens.tokens(), read, rotary,
                                       [&](int64_t done, int64_t) { progress.update(done); }));
    progress.update(tokens, {{"loss", fixed(results.back().mean(), 4)}});
    progress.finish();
  }
  return results;
}

PredictedReach reach_of(const EvaluateOptions& o, const LoadedModel& loaded) {
  const ModelConfig& stored = loaded.stored_config();
  const Json before = pretraining_of(o.model.checkpoint, stored);
  return predicted_reach(stored.head_dim,
                         o.pretraining_base.value_or(before.at("rope_base").as_real()),
                         o.pretraining_length.value_or(before.at("context_length").as_integer()),
                         loaded.config().rope_theta, stored.max_position_embeddings);
}

std::string table_of(const std::vector<ContextLoss>& results) {
  std::vector<std::string> header{"context", "windows", "tokens", "loss", "perplexity", "accuracy"};
  size_t buckets = 0;
  for (const ContextLoss& result : results) buckets = std::max(buckets, result.buckets.size());
  for (size_t b = 1; b <= buckets; ++b) header.push_back(concat("part ", b));
  Table table(header);
  for (const ContextLoss& r : results) {
    std::vector<std::string> row{short_size(r.protocol.context_length),
                                 format_grouped(r.windows),
                                 format_grouped(r.total.tokens),
                                 fixed(r.mean(), 4),
                                 fixed(r.perplexity(), 3),
                                 fixed(100 * r.accuracy(), 2) + "%"};
    for (const LossSum& b : r.buckets)
      row.push_back(fixed(b.loss / static_cast<double>(b.tokens), 4));
    table.add_row(row);
  }
  return table.str();
}

Json json_of(const ContextLoss& r) {
  Json buckets = Json::array();
  for (const LossSum& b : r.buckets) {
    const auto tokens = static_cast<double>(b.tokens);
    buckets.push(Json::object()
                     .set("loss", b.loss / tokens)
                     .set("tokens", b.tokens)
                     .set("accuracy", static_cast<double>(b.hits) / tokens));
  }
  const EvaluationProtocol& p = r.protocol;
  const int64_t stride = p.stride == 0 ? p.context_length : p.stride;
  Json result = Json::object();
  result.set("context_length", p.context_length)
      .set("windows", r.windows)
      .set("tokens", r.total.tokens)
      .set("loss", r.mean())
      .set("perplexity", r.perplexity())
      .set("accuracy", r.accuracy())
      .set("stride", stride)
      .set("overlap", p.overlap == Overlap::scored ? "scored" : "masked")
      .set("bos_id", p.bos_id)
      .set("buckets", buckets);
  if (p.parallel) {
    result.set("parallel_window", p.parallel->window).set("parallel_query", p.parallel->query);
  }
  return result;
}

std::string branch_name(const PredictedReach& reach) {
  return reach.branch == PredictedReach::Branch::larger_base ? "larger base" : "tuning length";
}

/// Everything that the command found out, as --json writes it and --compare reads it.
Json result_of(const EvaluateOptions& o, const RankedModel& model, const EvaluationData& data,
               const std::vector<ContextLoss>& results, const PredictedReach& reach,
               int64_t peak_bytes) {
  const LoadedModel& loaded = model.loaded;
  Json lengths = Json::array();
  for (const ContextLoss& r : results) lengths.push(json_of(r));
  Json result = begin_result("evaluate");
  result.set("checkpoint", loaded.description())
      .set("model", to_json(loaded.config()))
      .set("data", data.description)
      .set("data_tokens", data.tokens.tokens())
      .set("device", model.backend->description())
      .set("ranks", to_json(o.mesh, model.decision))
      .set("dtype", name_of(o.model.dtype))
      .set("attention_dtype", name_of(o.attention_dtype, o.model.dtype))
      .set("position_map", o.positions.name())
      .set("piece_tokens", model.memory.piece_tokens)
      .set("memory", memory_json(model.memory.account, peak_bytes))
      .set("predicted_reach", Json::object()
                                  .set("tokens", reach.tokens)
                                  .set("branch", branch_name(reach))
                                  .set("critical_dimension", reach.critical_dimension))
      .set("lengths", lengths);
  return result;
}

/// Earlier results, of which each must be one of this command.
std::vector<Json> read_results(const std::vector<std::string>& files) {
  std::vector<Json> results;
  for (const std::string& file : files) {
    results.push_back(read_json_file(file));
    const Json* command = results.back().find("command");
    if (command == nullptr || *command != Json("evaluate")) {
      throw UsageError(message(concat("--compare: ", file, " holds no evaluation"),
                               "ringbolt evaluate --json did not write it",
                               "Name a file that it wrote."));
    }
  }
  return results;
}

/// What rank 0 shows and writes.
void show(const EvaluateOptions& o, const RankedModel& model, const EvaluationData& data,
          const std::vector<ContextLoss>& results, int64_t peak_bytes, std::vector<Json> compared) {
  const LoadedModel& loaded = model.loaded;
  const PredictedReach reach = reach_of(o, loaded);
  if (!json_is_output(o.out.json)) {
    std::cout << loaded.description() << " on " << data.description << "\nrotary "
              << rope_description(loaded.config()) << ", tuned at "
              << loaded.stored_config().max_position_embeddings << " tokens: predicted reach "
              << short_size(static_cast<int64_t>(reach.tokens)) << " tokens (by the "
              << branch_name(reach) << ")\n";
    if (model.decision.mesh.world() > 1) std::cout << describe(o.mesh, model.decision) << '\n';
    std::cout << memory_line(model.memory.account, peak_bytes) << '\n';
    if (o.attention_dtype != AttentionDType::model)
      std::cout << "model in " << name_of(o.model.dtype) << ", attention in "
                << name_of(o.attention_dtype, o.model.dtype) << '\n';
    if (o.positions.map != UntunedMap::none)
      std::cout << o.positions.describe(loaded.config()) << '\n';
    std::cout << '\n' << table_of(results);
  }
  const Json result = result_of(o, model, data, results, reach, peak_bytes);
  compared.push_back(result);
  if (compared.size() > 1 && !json_is_output(o.out.json))
    std::cout << '\n' << comparison_table(compared);
  if (o.plot) draw_reach(*o.plot, compared);
  write_result(o.out.json, result);
}

/// Standard input goes to one process.
void require_readable(const EvaluateOptions& o) {
  const std::optional<Launch>& launch = find_launch();
  if (!launch || launch->size <= 1 || !o.text || *o.text != "-") return;
  throw UsageError(message("--text - cannot be read on many ranks",
                           "standard input goes to one process",
                           "Name a file, or use --local-ranks without a launcher."));
}

}  // namespace

int run_evaluate(const Arguments& arguments) {
  EvaluateOptions o;
  OptionSet options("evaluate",
                    "Loss, perplexity and next-token accuracy for each context length, and for "
                    "parts of the window by position. "
                    "By default windows follow one another, each begins with <s>, and all of their "
                    "tokens are scored.");
  o.declare(options);
  if (!options.parse(arguments, std::cout)) return 0;

  const std::vector<Json> compared = read_results(o.compare);
  require_readable(o);
  std::optional<EvaluationData> data;
  if (o.mesh.ranks.local_ranks > 1) data = open_data(o);  // once, as ranks share standard input
  run_on_ranks("evaluate", o.mesh.ranks, [&](Communicator& world) {
    const EvaluationData own = data ? *data : open_data(o);
    RankedModel model(o, world, own);
    const std::vector<ContextLoss> results = evaluate_all(o, model, own);
    int64_t peak_bytes = model.backend->memory().peak_bytes;
    all_reduce_largest(world, std::span(&peak_bytes, 1));
    if (world.rank() == 0) show(o, model, own, results, peak_bytes, compared);
  });
  return 0;
}

}  // namespace ringbolt
