// A line plot over powers of two, as SVG text.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace membrain {

struct PlotLine {
  std::string label;   ///< stands beside the line's end
  std::string colour;  ///< "#rrggbb"
  bool dashed = false;
  std::vector<std::pair<std::uint64_t, double>> points;  ///< by size in bytes, ascending
};

struct LinePlot {
  std::string title;
  std::string subtitle;
  std::string x_title;
  std::string y_title;
  std::vector<PlotLine> lines;
};

/// Sizes on a logarithmic axis, values on a linear one from 0. No background, and colours that can
/// be read on white and on black. Lines without points are left out. Pure.
[[nodiscard]] std::string to_svg(const LinePlot& plot);

}  // namespace membrain
