#include "io/svg_plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "core/base/error.h"
#include "tests/io/files.h"

namespace ringbolt {
namespace {

using test::error_of;
using test::expect_message;
using test::TemporaryFolder;

Plot sample() {
  Plot plot;
  plot.title = "Loss & <length>";
  plot.x_title = "context length (tokens)";
  plot.y_title = "loss";
  plot.series = {
      {"base 10000", {256, 512, 1024, 4096}, {0.8, 1.4, 3.0, 4.2}, {{333, "predicted reach 333"}}},
      {"base 100000",
       {256, 512, 1024, 4096},
       {0.8, 0.8, 0.9, 1.9},
       {{340, "predicted reach 340"}}}};
  return plot;
}

/// The attribute of each element (one a line) that has `part` in it.
std::vector<std::string> attributes(const std::string& svg, const std::string& part,
                                    const std::string& attribute) {
  std::vector<std::string> values;
  std::istringstream lines(svg);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(part) == std::string::npos) continue;
    const std::string key = " " + attribute + "=\"";
    const size_t begin = line.find(key) + key.size();
    values.push_back(line.substr(begin, line.find('"', begin) - begin));
  }
  return values;
}

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(SvgPlot, HasEveryPointTitleTickAndLegend) {
  const std::string svg = to_svg(sample());
  EXPECT_EQ(count(svg, "<circle"), 4U + 1U);  // one of the legend
  EXPECT_EQ(count(svg, "<path"), 2U);
  EXPECT_NE(svg.find("Loss &amp; &lt;length&gt;"), std::string::npos);
  for (const std::string label :
       {">256<", ">512<", ">1K<", ">2K<", ">4K<", ">base 100000<", ">loss<"}) {
    EXPECT_NE(svg.find(label), std::string::npos) << label;
  }
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(SvgPlot, MarkersHaveTheirSeriesColourAndLabelsApart) {
  const std::string svg = to_svg(sample());
  const auto curves = attributes(svg, "<path", "stroke");
  const auto lines = attributes(svg, "stroke-dasharray", "stroke");
  EXPECT_EQ(curves, lines);
  // Both labels would lie at the same place: they are in two rows.
  const auto rows = attributes(svg, ">predicted", "y");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_GE(std::abs(std::stod(rows[0]) - std::stod(rows[1])), 14.0);
}

TEST(SvgPlot, KeepsValuesBeyondTheFrameOnItsEdge) {
  Plot plot = sample();
  plot.y_max = 2.0;
  plot.series[0].y[1] = std::nan("");
  plot.series[0].y[3] = std::numeric_limits<double>::infinity();
  const std::string svg = to_svg(plot);
  EXPECT_EQ(count(svg, "<polygon"), 2U);      // 3.0 and infinity
  EXPECT_EQ(count(svg, "<circle"), 1U + 1U);  // 0.8; the NaN is a gap
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(SvgPlot, DrawsASinglePointAndRefusesNone) {
  Plot plot;
  plot.title = "one";
  plot.series = {{"a", {1000}, {2}, {}}};
  EXPECT_EQ(to_svg(plot).find("nan"), std::string::npos);
  plot.y_scale = AxisScale::log;
  EXPECT_EQ(to_svg(plot).find("nan"), std::string::npos);
  plot.series[0].y[0] = -1;
  expect_message(error_of<UsageError>([&] { to_svg(plot); }), {"'one'", "no point"});
  expect_message(error_of<UsageError>([] { to_svg(Plot()); }), {"no point"});
}

TEST(SvgPlot, IsWrittenAsAFile) {
  const TemporaryFolder folder;
  write_svg(folder / "a.svg", sample());
  EXPECT_EQ(read_whole_file(folder / "a.svg"), to_svg(sample()));
}

}  // namespace
}  // namespace ringbolt
