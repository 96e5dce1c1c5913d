#include "apps/rope_table.h"

#include <iostream>

#include "apps/common_options.h"
#include "apps/results.h"
#include "apps/rope_options.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "io/model_json.h"
#include "io/rope_json.h"
#include "io/svg_plot.h"
#include "io/table.h"
#include "rope/method.h"
#include "rope/resonance.h"

namespace ringbolt {
namespace {

struct TableOptions {
  std::optional<std::string> model_config;
  std::optional<int64_t> head_dim;
  std::optional<int64_t> train_length;
  RopeOptions rope;
  std::optional<int64_t> length;
  std::optional<std::string> compare;
  std::optional<std::string> plot;
  OutputOptions out;

  void declare(OptionSet& options) {
    options.group("Model");
    options.add("model-config", "FILE", model_config,
                "A Hugging Face config.json, for what is not given below");
    options.add("head-dim", "D", head_dim, "Dimensions of a head").at_least(2).by_default("128");
    options.add("train-length", "N", train_length, "Context length of pre-training")
        .at_least(2)
        .by_default("4096");
    rope.declare(options, "the model's");
    options.group("Output");
    options.add("length", "N", length, "Present length, which dynamic methods depend on")
        .at_least(1)
        .by_default("the factor times the training length");
    options.add("compare", "JSON|FILE|METHOD", compare,
                "A second method: an object as for --rope-scaling, or the name of one, with the "
                "same factor");
    options.add("plot", "FILE.svg", plot, "Draws the periods");
    out.declare(options);
    options.example("rope table --rope-method yarn --rope-factor 8 --compare ntk");
    options.example("rope table --model-config config.json --json -");
    options.example(
        R"(rope table --rope-scaling '{"rope_type": "dynamic", "factor": 2}' --length 16K)");
  }
};

struct Shown {
  ModelConfig config;
  RotarySchedule schedule;
};

ModelConfig model_of(const TableOptions& o) {
  ModelConfig model = model_shape("dim=128,layers=1,heads=1");
  model.max_position_embeddings = 4096;
  if (o.model_config) model = model_from_json(read_json_file(*o.model_config), *o.model_config);
  model.head_dim = o.head_dim.value_or(model.head_dim);
  model.max_position_embeddings = o.train_length.value_or(model.max_position_embeddings);
  return model;
}

/// The second method: the first one's base and L, and its factor where only a name is given.
ModelConfig compared_model(const TableOptions& o, const ModelConfig& base,
                           const ModelConfig& first) {
  ModelConfig second = base;
  second.rope_theta = first.rope_theta;
  RopeOptions rope;
  const bool named =
      o.compare->find('{') == std::string::npos && o.compare->find('.') == std::string::npos;
  if (named) {
    rope.method = rope_method(*o.compare);
    if (first.rope_scaling.factor > 1 && takes_factor(*rope.method))
      rope.factor = first.rope_scaling.factor;
  } else {
    rope.scaling = o.compare;
  }
  rope.apply(second);
  return second;
}

Shown show(const ModelConfig& config, const std::optional<int64_t>& length) {
  validate(config);
  const auto reached = static_cast<int64_t>(config.rope_scaling.factor *
                                            static_cast<double>(config.rope_original_length()));
  return {config, rotary_schedule(config, length.value_or(reached))};
}

Json json_of(const Shown& shown) {
  Json frequencies = Json::array();
  Json periods = Json::array();
  for (const double theta : shown.schedule.frequencies) {
    frequencies.push(theta);
    periods.push(period_of(theta));
  }
  return Json::object()
      .set("rope_parameters", rope_parameters_json(shown.config))
      .set("attention_factor", shown.schedule.attention_factor)
      .set("frequencies", frequencies)
      .set("periods", periods);
}

std::string scientific(double value) { return concat(value); }

std::string table_of(const std::vector<Shown>& all) {
  std::vector<std::string> header{"pair"};
  for (size_t k = 0; k < all.size(); ++k) {
    const std::string suffix = all.size() > 1 ? concat(" ", k + 1) : "";
    header.insert(header.end(), {"frequency" + suffix, "period" + suffix});
  }
  if (all.size() > 1) header.emplace_back("period 2 / 1");
  Table table(header);
  for (size_t i = 0; i < all.front().schedule.frequencies.size(); ++i) {
    std::vector<std::string> row{concat(i)};
    for (const Shown& one : all) {
      const bool has = i < one.schedule.frequencies.size();
      const double theta = has ? one.schedule.frequencies[i] : 0;
      row.push_back(has ? scientific(theta) : "-");
      row.push_back(has ? fixed(period_of(theta), 2) : "-");
    }
    if (all.size() > 1 && i < all[1].schedule.frequencies.size()) {
      row.push_back(fixed(all[0].schedule.frequencies[i] / all[1].schedule.frequencies[i], 4));
    }
    table.add_row(row);
  }
  return table.str();
}

void draw(const std::string& path, const std::vector<Shown>& all) {
  Plot plot;
  plot.title = "Periods of the pairs";
  plot.x_title = "pair";
  plot.y_title = "period (tokens)";
  plot.x_scale = AxisScale::linear;
  plot.y_scale = AxisScale::log;
  plot.y_ticks = LogTicks::binary;
  for (const Shown& one : all) {
    PlotSeries series{rope_description(one.config), {}, {}, {}};
    for (size_t i = 0; i < one.schedule.frequencies.size(); ++i) {
      series.x.push_back(static_cast<double>(i));
      series.y.push_back(period_of(one.schedule.frequencies[i]));
    }
    plot.series.push_back(series);
  }
  write_svg(path, plot);
}

}  // namespace

int run_rope_table(const Arguments& arguments) {
  TableOptions o;
  OptionSet options(
      "rope table",
      "Frequencies (rad a token), periods (tokens) and attention factor of a rotary method.");
  o.declare(options);
  if (!options.parse(arguments, std::cout)) return 0;
  const ModelConfig base = model_of(o);
  ModelConfig first = base;
  o.rope.apply(first);
  std::vector<Shown> all{show(first, o.length)};
  if (o.compare) all.push_back(show(compared_model(o, base, first), o.length));

  if (!json_is_output(o.out.json)) {
    for (size_t k = 0; k < all.size(); ++k) {
      std::cout << (all.size() > 1 ? concat(k + 1, ": ") : "") << rope_description(all[k].config)
                << ", attention factor " << all[k].schedule.attention_factor
                << (all[k].config.rope_scaling.method == RopeMethod::clex
                        ? ", its network as training begins\n"
                        : "\n");
    }
    std::cout << '\n' << table_of(all);
  }
  if (o.plot) draw(*o.plot, all);
  Json result = begin_result("rope table");
  Json methods = Json::array();
  for (const Shown& one : all) methods.push(json_of(one));
  write_result(o.out.json, result.set("methods", methods));
  return 0;
}

}  // namespace ringbolt
