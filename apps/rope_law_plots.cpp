// The three pictures of `ringbolt rope law`.
#include <algorithm>
#include <cmath>

#include "apps/rope_law.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "io/svg_plot.h"
#include "io/table.h"
#include "rope/frequencies.h"

namespace ringbolt {
namespace {

PlotMarker length_marker(const char* what, double tokens) {
  return {tokens, concat(what, " ", short_size(static_cast<int64_t>(std::llround(tokens))))};
}

bool is_tuned(const LawInput& in) {
  return in.tune_base != in.rope_base || in.tune_length != in.train_length ||
         in.tuned.rope_scaling.method != RopeMethod::none;
}

}  // namespace

void plot_periods(const std::string& path, const Law& law) {
  const LawInput& in = law.input;
  Plot plot;
  plot.title = concat("Dimensions right of a line have not completed a period within that length");
  plot.x_title = "period (tokens)";
  plot.y_title = "dimension of the head";
  plot.y_min = 0;
  PlotSeries trained{concat("pre-trained, base ", format_real(in.rope_base)), {}, {}, {}};
  PlotSeries tuned{concat("tuned, base ", format_real(in.tune_base)), {}, {}, {}};
  for (size_t i = 0; i < law.pairs.size(); ++i) {
    trained.x.push_back(law.pairs[i].trained_period);
    trained.y.push_back(2.0 * static_cast<double>(i));
    tuned.x.push_back(law.pairs[i].tuned_period);
    tuned.y.push_back(2.0 * static_cast<double>(i));
  }
  trained.markers.push_back(length_marker("trained at", static_cast<double>(in.train_length)));
  if (is_tuned(in)) {
    if (in.tune_length != in.train_length)
      tuned.markers.push_back(length_marker("tuned at", static_cast<double>(in.tune_length)));
    plot.series = {trained, tuned};
  } else {
    plot.series = {trained};
  }
  PlotSeries reach{"predicted reach", {}, {}, {length_marker("reach", law.reach.tokens)}};
  plot.series.push_back(reach);
  if (!law.wanted.empty()) {
    PlotSeries wanted{"wanted", {}, {}, {}};
    for (const WantedLength& w : law.wanted)
      wanted.markers.push_back(length_marker("wanted", static_cast<double>(w.tokens)));
    plot.series.push_back(wanted);
  }
  write_svg(path, plot);
}

void plot_reach(const std::string& path, const Law& law) {
  const LawInput& in = law.input;
  constexpr double kFirst = 100;
  const double last = std::max({1e8, 10 * in.tune_base, 10 * law.critical_base});
  Plot plot;
  plot.title = concat("Predicted reach, pre-trained at base ", format_real(in.rope_base), " and ",
                      format_count(in.train_length), " tokens");
  plot.x_title = "rotary base of tuning";
  plot.y_title = "reach (tokens)";
  plot.y_scale = AxisScale::log;
  plot.x_ticks = LogTicks::decimal;
  plot.y_ticks = LogTicks::binary;
  const auto curve = [&](int64_t length) {
    PlotSeries series{concat("tuned at ", format_count(length)), {}, {}, {}};
    for (double base = kFirst; base <= last; base *= std::pow(10.0, 1.0 / 6)) {
      series.x.push_back(base);
      series.y.push_back(
          predicted_reach(in.head_dim, in.rope_base, in.train_length, base, length).tokens);
    }
    return series;
  };
  plot.series.push_back(curve(in.tune_length));
  plot.series.back().markers.push_back(
      {law.critical_base, concat("beta_0 ", format_rate(law.critical_base))});
  if (in.tune_length != in.train_length) plot.series.push_back(curve(in.train_length));
  if (!law.wanted.empty()) {
    PlotSeries wanted{"base for a wanted length", {}, {}, {}};
    for (const WantedLength& w : law.wanted) {
      wanted.x.push_back(w.law_base);
      wanted.y.push_back(static_cast<double>(w.tokens));
    }
    plot.series.push_back(wanted);
  }
  // Last, so that nothing covers it.
  PlotSeries here{"this model", {in.tune_base}, {law.reach.tokens}, {}};
  here.markers.push_back({in.tune_base, concat("base ", format_real(in.tune_base))});
  plot.series.push_back(here);
  write_svg(path, plot);
}

void plot_bound(const std::string& path, const Law& law) {
  const LawInput& in = law.input;
  Plot plot;
  plot.title = "Where the curve is below 0, similar tokens get less attention than others";
  plot.x_title = "distance m (tokens)";
  plot.y_title = "lowest B(m) near the distance";
  const auto curve = [&](double base, const std::optional<int64_t>& negative) {
    PlotSeries series{concat("base ", format_real(base)), {}, {}, {}};
    const std::vector<double> frequencies = default_frequencies(in.head_dim, base);
    const int64_t last = std::max(law.farthest_length, negative.value_or(0) * 2);
    // A point is the lowest value up to the next one: single distances jump up and down.
    int64_t next = 1;
    for (int64_t m = 1; m <= last; m = next) {
      next = m + std::max<int64_t>(1, m / 8);
      double lowest = similarity_bound(frequencies, m);
      for (int64_t k = m + 1; k < next; ++k)
        lowest = std::min(lowest, similarity_bound(frequencies, k));
      series.x.push_back(static_cast<double>(m));
      series.y.push_back(lowest);
    }
    if (negative)
      series.markers.push_back(
          {static_cast<double>(*negative), concat("below 0 from ", *negative)});
    return series;
  };
  plot.series.push_back(curve(in.rope_base, law.trained_negative));
  if (in.tune_base != in.rope_base) plot.series.push_back(curve(in.tune_base, law.tuned_negative));
  write_svg(path, plot);
}

}  // namespace ringbolt
