// Line plots as SVG: several series with markers, and vertical lines that mark values of x.
//
// The legend stands right of the frame and the labels of the vertical lines above it, so that
// neither covers a curve. A value beyond the frame (or infinite) is drawn as a triangle on its
// edge; NaN leaves a gap.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace ringbolt {

enum class AxisScale { linear, log };
/// Ticks of a logarithmic axis: powers of two for lengths ("256", "1K", K is 1024), or of ten.
enum class LogTicks { binary, decimal };

/// A dashed vertical line at `x` in its series' colour: {4813, "predicted reach 4.7K"}.
struct PlotMarker {
  double x;
  std::string label;
};

struct PlotSeries {
  std::string name;  ///< in the legend
  std::vector<double> x;
  std::vector<double> y;  ///< as many as x
  std::vector<PlotMarker> markers;
};

struct Plot {
  std::string title;
  std::string x_title;
  std::string y_title;
  AxisScale x_scale = AxisScale::log;
  AxisScale y_scale = AxisScale::linear;
  LogTicks x_ticks = LogTicks::binary;
  LogTicks y_ticks = LogTicks::decimal;
  std::optional<double> y_min;  ///< of the frame; by default what the finite values need
  std::optional<double> y_max;
  std::vector<PlotSeries> series;
};

/// Throws: UsageError where no point can be drawn (all NaN, or none above 0 on a logarithmic axis).
std::string to_svg(const Plot& plot);
/// Atomically. Throws: UsageError as to_svg, IoError.
void write_svg(const std::string& path, const Plot& plot);

}  // namespace ringbolt
