#include "io/svg_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "io/atomic_file.h"
#include "io/table.h"

namespace ringbolt {
namespace {

constexpr double kFrameWidth = 620;
constexpr double kFrameHeight = 400;
constexpr double kLeft = 84;
constexpr double kBottom = 64;
constexpr double kLine = 18;      // height of a line of small text
constexpr double kCharacter = 7;  // width of one, about
constexpr std::array kColours{"#1f6fb4", "#d1492e", "#2e8b57", "#8a5ab5",
                              "#b07d10", "#4a4a4a", "#c2417c", "#138a8a"};

struct Tick {
  double value;
  std::string label;
};

/// One axis: maps values to [0, 1].
struct Axis {
  AxisScale scale = AxisScale::linear;
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  std::vector<Tick> ticks;

  bool can_show(double v) const { return !std::isnan(v) && (scale == AxisScale::linear || v > 0); }
  double transform(double v) const { return scale == AxisScale::log ? std::log2(v) : v; }
  double at(double v) const {
    return (transform(v) - transform(low)) / (transform(high) - transform(low));
  }
  void include(double v) {
    if (!can_show(v) || std::isinf(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  /// Room at both ends: a share of the range.
  void pad(double share) {
    if (scale == AxisScale::log) {
      const double factor = low == high ? 2.0 : std::pow(high / low, share);
      low /= factor;
      high *= factor;
      return;
    }
    const double room = low == high ? std::max(std::abs(low) * 0.1, 0.5) : (high - low) * share;
    low -= room;
    high += room;
  }
};

std::string escape(const std::string& text) {
  std::string safe;
  for (char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

double text_width(const std::string& text) {
  const auto characters =
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return kCharacter * static_cast<double>(characters);
}

/// Coordinates with one decimal.
std::string px(double v) { return fixed(v, 1); }

std::string plain_number(double v) {
  std::ostringstream out;
  out.precision(6);
  out << v;
  return out.str();
}

/// 1, 2 or 5 times a power of ten, so that about `count` steps fill the range.
double nice_step(double range, int count) {
  const double raw = range / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (double m : {1.0, 2.0, 5.0}) {
    if (m * power >= raw * 0.999) return m * power;
  }
  return 10 * power;
}

void add_linear_ticks(Axis& axis) {
  const double step = nice_step(axis.high - axis.low, 7);
  for (double k = std::ceil(axis.low / step); k * step <= axis.high; k += 1) {
    const double v = k == 0 ? 0 : k * step;
    axis.ticks.push_back({v, plain_number(v)});
  }
}

/// Powers of two, at most ten; "256", "1K".
void add_binary_ticks(Axis& axis) {
  const double first = std::ceil(std::log2(axis.low) - 1e-9);
  const double last = std::floor(std::log2(axis.high) + 1e-9);
  const double every = std::max(1.0, std::ceil((last - first + 1) / 10));
  for (double e = first; e <= last; e += every) {
    const double v = std::exp2(e);
    axis.ticks.push_back(
        {v, e >= 0 && e < 62 ? short_size(static_cast<int64_t>(v)) : plain_number(v)});
  }
}

/// 1, 2 and 5 times powers of ten where they are few, else powers of ten only.
void add_decimal_ticks(Axis& axis) {
  const double decades = std::log10(axis.high / axis.low);
  if (decades < 0.7) return add_linear_ticks(axis);
  const double every = std::max(1.0, std::ceil(decades / 8));
  for (double e = std::floor(std::log10(axis.low)); e <= std::log10(axis.high); e += every) {
    for (double m : {1.0, 2.0, 5.0}) {
      const double v = m * std::pow(10.0, e);
      if ((m == 1.0 || decades < 3) && v >= axis.low && v <= axis.high)
        axis.ticks.push_back({v, plain_number(v)});
    }
  }
}

void add_ticks(Axis& axis, LogTicks kind) {
  if (axis.scale == AxisScale::linear) return add_linear_ticks(axis);
  kind == LogTicks::binary ? add_binary_ticks(axis) : add_decimal_ticks(axis);
}

/// A label above the frame, in a row where it meets no other.
struct MarkerLabel {
  double x;
  double text_x;  // centre of the text
  int row;
  std::string text;
  size_t series;
};

class Drawing {
 public:
  explicit Drawing(const Plot& plot) : plot_(plot) {
    find_ranges();
    place_marker_labels();
    double legend = 0;
    for (const PlotSeries& s : plot.series) legend = std::max(legend, text_width(s.name));
    top_ = (plot.title.empty() ? 14 : 44) + kLine * label_rows_ + (label_rows_ > 0 ? 6 : 0);
    width_ = kLeft + kFrameWidth + 56 + legend + 16;
    height_ = top_ + kFrameHeight + kBottom;
  }

  std::string str() {
    out_ << R"(<svg xmlns="http://www.w3.org/2000/svg" width=")" << px(width_) << R"(" height=")"
         << px(height_) << R"(" viewBox="0 0 )" << px(width_) << ' ' << px(height_)
         << "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222\">\n"
         << R"(<rect width="100%" height="100%" fill="#fff"/>)" << '\n'
         << R"(<clipPath id="frame"><rect x=")" << px(kLeft) << R"(" y=")" << px(top_)
         << R"(" width=")" << px(kFrameWidth) << R"(" height=")" << px(kFrameHeight)
         << R"("/></clipPath>)" << '\n';
    draw_axes();
    for (const MarkerLabel& label : labels_) draw_marker_line(label);
    for (const MarkerLabel& label : labels_) draw_marker_label(label);
    for (size_t i = 0; i < plot_.series.size(); ++i) draw_series(i);
    out_ << "</svg>\n";
    return out_.str();
  }

 private:
  double x_at(double v) const { return kLeft + kFrameWidth * x_.at(v); }
  double y_at(double v) const { return top_ + kFrameHeight * (1 - y_.at(v)); }
  static const char* colour(size_t i) { return kColours[i % kColours.size()]; }
  bool shows(const PlotSeries& s, size_t i) const {
    return x_.can_show(s.x[i]) && !std::isinf(s.x[i]) && y_.can_show(s.y[i]);
  }

  void find_ranges() {
    x_.scale = plot_.x_scale;
    y_.scale = plot_.y_scale;
    for (const PlotSeries& s : plot_.series) {
      RINGBOLT_CHECK(s.x.size() == s.y.size());
      for (size_t i = 0; i < s.x.size(); ++i) {
        if (!shows(s, i)) continue;
        x_.include(s.x[i]);
        y_.include(s.y[i]);
      }
    }
    if (x_.low > x_.high || y_.low > y_.high) {
      throw UsageError(
          message(concat("cannot plot '", plot_.title, "'"), "no point of it can be drawn",
                  "Check that there are finite values, above 0 for a logarithmic axis."));
    }
    for (const PlotSeries& s : plot_.series) {
      for (const PlotMarker& m : s.markers) x_.include(m.x);
    }
    x_.pad(0.04);
    y_.pad(0.06);
    if (plot_.y_min && y_.can_show(*plot_.y_min) && *plot_.y_min < y_.high) y_.low = *plot_.y_min;
    if (plot_.y_max && y_.can_show(*plot_.y_max) && *plot_.y_max > y_.low) y_.high = *plot_.y_max;
    add_ticks(x_, plot_.x_ticks);
    add_ticks(y_, plot_.y_ticks);
  }

  void place_marker_labels() {
    for (size_t i = 0; i < plot_.series.size(); ++i) {
      for (const PlotMarker& m : plot_.series[i].markers) {
        if (x_.can_show(m.x) && !std::isinf(m.x)) labels_.push_back({x_at(m.x), 0, 0, m.label, i});
      }
    }
    std::sort(labels_.begin(), labels_.end(),
              [](const auto& a, const auto& b) { return a.x < b.x; });
    std::vector<double> row_ends;
    for (MarkerLabel& label : labels_) {
      const double half = text_width(label.text) / 2;
      label.text_x =
          std::clamp(label.x, kLeft + half, std::max(kLeft + half, kLeft + kFrameWidth - half));
      size_t row = 0;
      while (row < row_ends.size() && row_ends[row] > label.text_x - half) ++row;
      if (row == row_ends.size()) row_ends.push_back(0);
      row_ends[row] = label.text_x + half + 10;
      label.row = static_cast<int>(row);
    }
    label_rows_ = static_cast<int>(row_ends.size());
  }

  void draw_text(double x, double y, const char* anchor, const std::string& text,
                 const std::string& more = "") {
    out_ << "<text x=\"" << px(x) << "\" y=\"" << px(y) << "\" text-anchor=\"" << anchor << '"'
         << more << '>' << escape(text) << "</text>\n";
  }
  void draw_line(double x1, double y1, double x2, double y2, const std::string& style) {
    out_ << "<line x1=\"" << px(x1) << "\" y1=\"" << px(y1) << "\" x2=\"" << px(x2) << "\" y2=\""
         << px(y2) << "\" " << style << "/>\n";
  }

  void draw_axes() {
    const double bottom = top_ + kFrameHeight;
    for (const Tick& tick : x_.ticks) {
      draw_line(x_at(tick.value), top_, x_at(tick.value), bottom, "stroke=\"#e4e4e4\"");
      draw_text(x_at(tick.value), bottom + 18, "middle", tick.label);
    }
    for (const Tick& tick : y_.ticks) {
      draw_line(kLeft, y_at(tick.value), kLeft + kFrameWidth, y_at(tick.value),
                "stroke=\"#e4e4e4\"");
      draw_text(kLeft - 8, y_at(tick.value) + 4, "end", tick.label);
    }
    out_ << "<rect x=\"" << px(kLeft) << "\" y=\"" << px(top_) << "\" width=\"" << px(kFrameWidth)
         << "\" height=\"" << px(kFrameHeight) << "\" fill=\"none\" stroke=\"#888\"/>\n";
    if (!plot_.title.empty())
      draw_text(kLeft, 26, "start", plot_.title, " font-size=\"16\" font-weight=\"bold\"");
    draw_text(kLeft + kFrameWidth / 2, bottom + 46, "middle", plot_.x_title, " font-size=\"13\"");
    const double middle = top_ + kFrameHeight / 2;
    draw_text(22, middle, "middle", plot_.y_title,
              concat(" font-size=\"13\" transform=\"rotate(-90 22 ", px(middle), ")\""));
  }

  double marker_text_y(const MarkerLabel& label) const { return top_ - 8 - kLine * label.row; }
  void draw_marker_line(const MarkerLabel& label) {
    draw_line(label.x, marker_text_y(label) + 4, label.x, top_ + kFrameHeight,
              concat("stroke=\"", colour(label.series),
                     "\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\""));
  }
  void draw_marker_label(const MarkerLabel& label) {
    const double text_y = marker_text_y(label);
    // White behind the text: the dashed lines of higher rows pass through lower ones.
    const double half = text_width(label.text) / 2;
    out_ << "<rect x=\"" << px(label.text_x - half) << "\" y=\"" << px(text_y - 12) << "\" width=\""
         << px(2 * half) << "\" height=\"16\" fill=\"#fff\"/>\n";
    draw_text(label.text_x, text_y, "middle", label.text,
              concat(" fill=\"", colour(label.series), "\""));
  }

  /// Shapes differ, too, so that series can be told apart without colours.
  void draw_point(double x, double y, size_t series) {
    const std::string fill = concat("fill=\"", colour(series), "\"/>\n");
    switch (series % 4) {
      case 0:
        out_ << "<circle cx=\"" << px(x) << "\" cy=\"" << px(y) << "\" r=\"4\" " << fill;
        break;
      case 1:
        out_ << "<rect x=\"" << px(x - 3.8) << "\" y=\"" << px(y - 3.8)
             << "\" width=\"7.6\" height=\"7.6\" " << fill;
        break;
      case 2:
        draw_polygon({{x, y - 5}, {x + 5, y}, {x, y + 5}, {x - 5, y}}, fill);
        break;
      default:
        draw_polygon({{x, y - 5}, {x + 5, y + 4}, {x - 5, y + 4}}, fill);
        break;
    }
  }
  void draw_polygon(const std::vector<std::pair<double, double>>& corners,
                    const std::string& fill) {
    out_ << "<polygon points=\"";
    for (const auto& [x, y] : corners) out_ << px(x) << ',' << px(y) << ' ';
    out_ << "\" " << fill;
  }

  void draw_series(size_t index) {
    const PlotSeries& s = plot_.series[index];
    const double far = 10 * kFrameHeight;  // a line to an infinite value leaves the frame steeply
    const auto y_of = [&](double v) {
      return std::clamp(y_at(v), top_ - far, top_ + kFrameHeight + far);
    };
    std::string path;
    bool pen_down = false;
    for (size_t i = 0; i < s.x.size(); ++i) {
      const bool shown = shows(s, i);
      if (shown) path += concat(pen_down ? "L" : "M", px(x_at(s.x[i])), ' ', px(y_of(s.y[i])), ' ');
      pen_down = shown;
    }
    out_ << "<path d=\"" << path << "\" fill=\"none\" stroke=\"" << colour(index)
         << "\" stroke-width=\"2\" stroke-linejoin=\"round\""
         << (index >= kColours.size() ? " stroke-dasharray=\"3 3\"" : "")
         << " clip-path=\"url(#frame)\"/>\n";
    const std::string fill = concat("fill=\"", colour(index), "\"/>\n");
    for (size_t i = 0; i < s.x.size(); ++i) {
      if (!shows(s, i)) continue;
      const double x = x_at(s.x[i]);
      const double y = y_of(s.y[i]);
      const double bottom = top_ + kFrameHeight;
      if (y < top_) {
        draw_polygon({{x, top_ + 1}, {x + 5, top_ + 10}, {x - 5, top_ + 10}}, fill);
      } else if (y > bottom) {
        draw_polygon({{x, bottom - 1}, {x + 5, bottom - 10}, {x - 5, bottom - 10}}, fill);
      } else {
        draw_point(x, y, index);
      }
    }
    const double legend_x = kLeft + kFrameWidth + 16;
    const double legend_y = top_ + 12 + (kLine + 4) * static_cast<double>(index);
    draw_line(legend_x, legend_y, legend_x + 28, legend_y,
              concat("stroke=\"", colour(index), "\" stroke-width=\"2\""));
    draw_point(legend_x + 14, legend_y, index);
    draw_text(legend_x + 36, legend_y + 4, "start", s.name);
  }

  const Plot& plot_;
  Axis x_;
  Axis y_;
  std::vector<MarkerLabel> labels_;
  int label_rows_ = 0;
  double top_ = 0;
  double width_ = 0;
  double height_ = 0;
  std::ostringstream out_;
};

}  // namespace

std::string to_svg(const Plot& plot) { return Drawing(plot).str(); }

void write_svg(const std::string& path, const Plot& plot) {
  write_file_atomically(path, to_svg(plot));
}

}  // namespace ringbolt
