#include "apps/reach_plot.h"

#include <map>
#include <vector>

#include "apps/results.h"
#include "apps/rope_options.h"
#include "core/base/error.h"
#include "io/model_json.h"
#include "io/svg_plot.h"
#include "io/table.h"

namespace ringbolt {
namespace {

/// What tells a result from the others: the rotary method of its model.
std::string name_of_result(const Json& result) {
  return rope_description(model_from_json(result.at("model"), "a result"));
}

PlotSeries series_of(const Json& result) {
  PlotSeries series;
  series.name = name_of_result(result);
  for (const Json& length : result.at("lengths").items()) {
    series.x.push_back(length.at("context_length").as_real());
    series.y.push_back(length.at("loss").as_real());
  }
  const double reach = result.at("predicted_reach").at("tokens").as_real();
  series.markers.push_back({reach, "predicted reach " + short_size(static_cast<int64_t>(reach))});
  return series;
}

}  // namespace

void draw_reach(const std::string& path, std::span<const Json> results) {
  Plot plot;
  plot.title = "Loss against context length";
  plot.x_title = "context length (tokens)";
  plot.y_title = "loss (nats per token)";
  for (const Json& result : results) plot.series.push_back(series_of(result));
  write_svg(path, plot);
}

std::string comparison_table(std::span<const Json> results) {
  std::vector<std::string> header{"context"};
  std::map<int64_t, std::map<size_t, double>> losses;  // by length, then by result
  for (size_t i = 0; i < results.size(); ++i) {
    header.push_back("loss, " + name_of_result(results[i]));
    for (const Json& length : results[i].at("lengths").items()) {
      losses[length.at("context_length").as_integer()][i] = length.at("loss").as_real();
    }
  }
  Table table(header);
  for (const auto& [length, of_result] : losses) {
    std::vector<std::string> row{short_size(length)};
    for (size_t i = 0; i < results.size(); ++i) {
      const auto found = of_result.find(i);
      row.push_back(found == of_result.end() ? "-" : fixed(found->second, 4));
    }
    table.add_row(row);
  }
  return table.str();
}

}  // namespace ringbolt
