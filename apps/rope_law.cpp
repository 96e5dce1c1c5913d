#include "apps/rope_law.h"

#include <algorithm>
#include <cmath>
#include <iostream>

#include "apps/common_options.h"
#include "apps/results.h"
#include "apps/rope_options.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "io/model_json.h"
#include "io/table.h"
#include "rope/angle_distribution.h"
#include "rope/frequencies.h"
#include "rope/resonance.h"

namespace ringbolt {
namespace {

constexpr int64_t kFarthestBound = int64_t{1} << 20;

struct LawOptions {
  std::optional<std::string> model_config;
  std::optional<int64_t> head_dim;
  std::optional<double> rope_base;
  std::optional<int64_t> train_length;
  std::optional<double> tune_base;
  std::optional<int64_t> tune_length;
  std::vector<int64_t> wanted_lengths;
  bool pairs = false;
  std::optional<std::string> plot_periods;
  std::optional<std::string> plot_reach;
  std::optional<std::string> plot_bound;
  OutputOptions out;

  void declare(OptionSet& options) {
    options.group("Model");
    options.add("model-config", "FILE", model_config,
                "A Hugging Face config.json, for what is not given below");
    options.add("head-dim", "D", head_dim, "Dimensions of a head that rotate")
        .at_least(4)
        .by_default("128");
    options.add("rope-base", "B", rope_base, "Rotary base of pre-training")
        .above(1)
        .by_default("1e4");
    options.add("train-length", "N", train_length, "Context length of pre-training")
        .at_least(7)
        .by_default("4096");
    options.group("Tuning");
    options.add("tune-length", "N", tune_length, "Context length of fine-tuning")
        .at_least(7)
        .by_default("that of pre-training");
    options.add("tune-base", "B", tune_base, "Rotary base of fine-tuning")
        .above(1)
        .by_default("that of pre-training");
    options
        .add("want-length", "LIST", wanted_lengths,
             "Context lengths that are wanted: 128K,1M. The base that each needs")
        .at_least(7);
    options.group("Output");
    options.flag("pairs", pairs, "Shows each pair of dimensions, too");
    options.add("plot-periods", "FILE.svg", plot_periods,
                "Periods of the dimensions against the lengths");
    options.add("plot-reach", "FILE.svg", plot_reach, "Predicted reach against the base of tuning");
    options.add("plot-bound", "FILE.svg", plot_bound,
                "B(m), whose sign bounds the context, for both bases");
    out.declare(options);
    options.example(
        "rope law --rope-base 1e4 --train-length 4096 --tune-length 16K --tune-base 1e6",
        "LLaMA-2, tuned");
    options.example("rope law --model-config config.json --want-length 128K,1M --pairs");
    options.example("rope law --tune-base 500 --tune-length 16K --plot-reach reach.svg");
  }
};

LawInput input_of(const LawOptions& o) {
  ModelConfig model = model_shape("dim=128,layers=1,heads=1");
  model.max_position_embeddings = 4096;
  if (o.model_config) model = model_from_json(read_json_file(*o.model_config), *o.model_config);
  LawInput in;
  in.head_dim = o.head_dim.value_or(rotary_dimension(model.rope_scaling, model.head_dim));
  if (in.head_dim % 2 != 0) {
    throw UsageError(message(concat("the head dimension ", in.head_dim, " is odd"),
                             "rotary embedding turns pairs", "Give an even --head-dim."));
  }
  in.rope_base = o.rope_base.value_or(model.rope_theta);
  in.train_length = o.train_length.value_or(model.rope_original_length());
  in.tune_length = o.tune_length.value_or(
      std::max(in.train_length, o.train_length ? in.train_length : model.max_position_embeddings));
  in.tune_base = o.tune_base.value_or(in.rope_base);
  in.wanted_lengths = o.wanted_lengths;
  in.tuned = model;
  in.tuned.head_dim = in.head_dim;
  in.tuned.rope_scaling.partial_rotary_factor = 1;
  in.tuned.rope_theta = in.tune_base;
  if (in.tune_length < in.train_length) {
    throw UsageError(message(concat("the tuning length ", in.tune_length,
                                    " is below the training length ", in.train_length),
                             "the laws are of tuning at that length or more",
                             "Give a larger --tune-length."));
  }
  return in;
}

std::vector<PairLaw> pairs_of(const LawInput& in, int64_t farthest) {
  const std::vector<double> trained = default_frequencies(in.head_dim, in.rope_base);
  const std::vector<double> tuned = rotary_schedule(in.tuned, farthest).frequencies;
  std::vector<PairLaw> pairs;
  for (size_t i = 0; i < trained.size(); ++i) {
    const double before = period_of(trained[i]);
    const double after = period_of(tuned[i]);
    pairs.push_back({before, after, static_cast<double>(in.train_length) / before,
                     static_cast<double>(in.tune_length) / after,
                     angle_disturbance(trained[i], in.train_length, tuned[i], farthest),
                     resonance_gap(tuned[i], in.tune_length, farthest)});
  }
  return pairs;
}

Law law_of(const LawInput& in, const ProgressOutput& progress) {
  Law law;
  law.input = in;
  law.critical_dimension = critical_dimension(in.head_dim, in.rope_base, in.train_length);
  law.critical_base = critical_base(in.rope_base, in.train_length, in.tune_length);
  law.reach =
      predicted_reach(in.head_dim, in.rope_base, in.train_length, in.tune_base, in.tune_length);
  law.smaller_bases = smaller_bases(in.tune_length);
  law.farthest_length = 2 * in.tune_length;
  Progress shown("base bounds", std::ssize(in.wanted_lengths), "lengths", progress);
  int64_t done = 0;
  for (const int64_t wanted : in.wanted_lengths) {
    law.wanted.push_back({wanted, critical_base(in.rope_base, in.train_length, wanted),
                          smallest_base_rounded(in.head_dim, in.rope_base, in.train_length, wanted),
                          base_lower_bound(in.head_dim, wanted),
                          law.reach.tokens >= static_cast<double>(wanted)});
    law.farthest_length = std::max(law.farthest_length, wanted);
    shown.update(++done);
  }
  shown.finish();
  law.trained_negative =
      first_negative_distance(default_frequencies(in.head_dim, in.rope_base), kFarthestBound);
  law.tuned_negative =
      first_negative_distance(default_frequencies(in.head_dim, in.tune_base), kFarthestBound);
  law.pairs = pairs_of(in, law.farthest_length);
  return law;
}

std::string branch_of(const Law& law) {
  const bool larger = law.reach.branch == PredictedReach::Branch::larger_base;
  return larger
             ? concat("larger base: above beta_0 = ", fixed(law.critical_base, 0))
             : concat("tuning length: the base is at most beta_0 = ", fixed(law.critical_base, 0));
}

std::string tokens_of(double tokens) {
  return concat(format_grouped(static_cast<int64_t>(std::llround(tokens))), " tokens (",
                short_size(static_cast<int64_t>(tokens)), ")");
}

std::string served(const std::optional<int64_t>& negative) {
  return negative ? concat(format_grouped(*negative - 1), " tokens (B(m) < 0 from ", *negative, ")")
                  : concat("more than ", format_grouped(kFarthestBound), " tokens");
}

std::string caveat_of(const Law& law) {
  const LawInput& in = law.input;
  if (!is_small_base(in.rope_base, in.tune_base)) return "";
  return concat("Caveat: ", format_real(in.tune_base),
                " is below the base of pre-training. Such a model has a low loss far "
                "beyond its tuning length, but does not retrieve from there: at base 500 LLaMA-2 "
                "tuned at 32K failed within "
                "1K (arXiv 2405.14591, figure 3; the laws' own authors call this half of them a "
                "mistake). Measure retrieval, "
                "too, not the loss alone.");
}

std::string facts_of(const Law& law) {
  const LawInput& in = law.input;
  Table table({"law", "value"});
  const auto row = [&](const std::string& name, const std::string& value) {
    table.add_row({name, value});
  };
  row("pre-training",
      concat("base ", format_real(in.rope_base), ", ", format_count(in.train_length), " tokens, ",
             in.head_dim, " dimensions"));
  row("critical dimension",
      concat(law.critical_dimension, " of ", in.head_dim, " (period within training)"));
  row("tuning", concat(rope_description(in.tuned), ", ", format_count(in.tune_length), " tokens"));
  row("critical base beta_0", fixed(law.critical_base, 1));
  row("predicted reach", tokens_of(law.reach.tokens));
  row("  by the", branch_of(law));
  row("  critical dimension then", concat(law.reach.critical_dimension));
  row("smaller bases beta_1, 2, 3",
      concat(fixed(law.smaller_bases[0], 1), ", ", fixed(law.smaller_bases[1], 1), ", ",
             fixed(law.smaller_bases[2], 1)));
  row("context that B(m) serves", served(law.trained_negative));
  if (in.tune_base != in.rope_base) row("  after tuning", served(law.tuned_negative));
  double disturbance = 0;
  double gap = 0;
  for (const PairLaw& pair : law.pairs) {
    disturbance += pair.disturbance / static_cast<double>(law.pairs.size());
    gap = std::max(gap, pair.gap);
  }
  row(concat("disturbance to ", format_count(law.farthest_length)),
      concat(fixed(1e3 * disturbance, 2), " x 1e-3, mean over pairs"));
  row("largest resonance gap", concat(fixed(gap, 4), " rad"));
  return table.str();
}

std::string wanted_table(const Law& law) {
  if (law.wanted.empty()) return "";
  Table table({"wanted", "reached", "base by the law", "by its survey", "B(m) >= 0 first at",
               "and always from"});
  for (const WantedLength& w : law.wanted) {
    table.add_row({format_count(w.tokens), w.is_reached ? "yes" : "no", fixed(w.law_base, 0),
                   fixed(w.survey_base, 0), fixed(w.bound.first_feasible, 0),
                   fixed(w.bound.always_feasible_from, 0)});
  }
  return "\n" + table.str();
}

std::string pairs_table(const Law& law) {
  Table table({"dimensions", "period", "tuned period", "in training", "in tuning", "disturbance",
               "gap (rad)"});
  for (size_t i = 0; i < law.pairs.size(); ++i) {
    const PairLaw& p = law.pairs[i];
    table.add_row({concat(2 * i, ", ", 2 * i + 1), fixed(p.trained_period, 2),
                   fixed(p.tuned_period, 2), fixed(p.trained_rotations, 3),
                   fixed(p.tuned_rotations, 3), fixed(1e3 * p.disturbance, 2), fixed(p.gap, 5)});
  }
  return "\n" + table.str();
}

/// A number, or null for none.
Json optional_json(const std::optional<int64_t>& value) { return value ? Json(*value) : Json(); }

Json json_of(const Law& law) {
  const LawInput& in = law.input;
  Json wanted = Json::array();
  for (const WantedLength& w : law.wanted) {
    wanted.push(Json::object()
                    .set("length", w.tokens)
                    .set("reached", w.is_reached)
                    .set("law_base", w.law_base)
                    .set("survey_base", w.survey_base)
                    .set("first_feasible_base", w.bound.first_feasible)
                    .set("always_feasible_from", w.bound.always_feasible_from));
  }
  Json pairs = Json::array();
  for (const PairLaw& p : law.pairs) {
    pairs.push(Json::object()
                   .set("period", p.trained_period)
                   .set("tuned_period", p.tuned_period)
                   .set("trained_periods", p.trained_rotations)
                   .set("tuned_periods", p.tuned_rotations)
                   .set("disturbance", p.disturbance)
                   .set("resonance_gap", p.gap));
  }
  Json smaller = Json::array();
  for (const double base : law.smaller_bases) smaller.push(base);
  Json result = begin_result("rope law");
  return result.set("head_dim", in.head_dim)
      .set("rope_base", in.rope_base)
      .set("train_length", in.train_length)
      .set("tune_base", in.tune_base)
      .set("tune_length", in.tune_length)
      .set("critical_dimension", law.critical_dimension)
      .set("critical_base", law.critical_base)
      .set("reach", Json::object()
                        .set("tokens", law.reach.tokens)
                        .set("branch", law.reach.branch == PredictedReach::Branch::larger_base
                                           ? "larger base"
                                           : "tuning length")
                        .set("critical_dimension", law.reach.critical_dimension))
      .set("smaller_bases", smaller)
      .set("first_negative_distance", optional_json(law.trained_negative))
      .set("tuned_first_negative_distance", optional_json(law.tuned_negative))
      .set("farthest_length", law.farthest_length)
      .set("wanted", wanted)
      .set("caveat", caveat_of(law))
      .set("pairs", pairs);
}

}  // namespace

int run_rope_law(const Arguments& arguments) {
  LawOptions o;
  OptionSet options(
      "rope law",
      "How far a model reaches for its rotary base, tuned at a length: the scaling laws of "
      "RoPE-based "
      "extrapolation (arXiv 2310.05209) and the bound of the base (arXiv 2405.14591).");
  o.declare(options);
  if (!options.parse(arguments, std::cout)) return 0;
  const Law law = law_of(input_of(o), o.out.progress_output());
  if (!json_is_output(o.out.json)) {
    std::cout << facts_of(law) << wanted_table(law);
    if (o.pairs) std::cout << pairs_table(law);
    if (const std::string caveat = caveat_of(law); !caveat.empty())
      std::cout << '\n' << caveat << '\n';
  }
  if (o.plot_periods) plot_periods(*o.plot_periods, law);
  if (o.plot_reach) plot_reach(*o.plot_reach, law);
  if (o.plot_bound) plot_bound(*o.plot_bound, law);
  write_result(o.out.json, json_of(law));
  return 0;
}

}  // namespace ringbolt
