#include "tools/line_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>

namespace membrain {
namespace {

// The drawing, in pixels.
constexpr double kWidth = 890;
constexpr double kHeight = 480;
constexpr double kLeft = 70;
constexpr double kRight = 650;  // labels stand to the right of it
constexpr double kTop = 76;
constexpr double kBottom = 412;
constexpr double kLabelHeight = 17;
constexpr double kTicks = 6;

constexpr std::string_view kStyle =
    "<style>\n"
    "text { font-family: system-ui, 'DejaVu Sans', sans-serif; font-size: 13px; fill: #6e7781; }\n"
    ".title { font-size: 17px; font-weight: 600; }\n"
    ".grid { stroke: #8c959f; stroke-opacity: 0.3; stroke-width: 1; }\n"
    ".axis { stroke: #8c959f; stroke-width: 1; }\n"
    ".line { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }\n"
    ".label { font-weight: 600; }\n"
    "</style>\n";

std::string escaped(std::string_view text) {
  std::string result;
  for (const char letter : text) {
    if (letter == '&') {
      result += "&amp;";
    } else if (letter == '<') {
      result += "&lt;";
    } else if (letter == '>') {
      result += "&gt;";
    } else {
      result += letter;
    }
  }
  return result;
}

/// 1, 2, 2.5 or 5 times a power of ten, so that at most kTicks steps reach `highest`.
double step_for(double highest) {
  if (!(highest > 0)) return 1;
  const double power = std::pow(10, std::floor(std::log10(highest / kTicks)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (highest <= factor * power * kTicks) return factor * power;
  }
  return 10 * power;
}

std::string size_label(std::uint64_t bytes) {
  if (bytes >= (std::uint64_t{1} << 20)) return fmt::format("{} MiB", bytes >> 20);
  if (bytes >= 1024) return fmt::format("{} KiB", bytes >> 10);
  return fmt::format("{} B", bytes);
}

/// Where values lie in the drawing.
struct Scale {
  double least_log = 0;
  double most_log = 1;
  double step = 1;
  double top = 1;

  [[nodiscard]] double x(std::uint64_t bytes) const {
    const double range = std::max(most_log - least_log, 1.0);
    return kLeft + (std::log2(static_cast<double>(bytes)) - least_log) / range * (kRight - kLeft);
  }
  [[nodiscard]] double y(double value) const { return kBottom - value / top * (kBottom - kTop); }
};

Scale scale_of(const LinePlot& plot) {
  Scale scale;
  double highest = 0;
  bool any = false;
  for (const PlotLine& line : plot.lines) {
    for (const auto& [bytes, value] : line.points) {
      const double log = std::log2(static_cast<double>(bytes));
      scale.least_log = any ? std::min(scale.least_log, log) : log;
      scale.most_log = any ? std::max(scale.most_log, log) : log;
      highest = std::max(highest, value);
      any = true;
    }
  }
  scale.step = step_for(highest);
  scale.top = scale.step * std::max(1.0, std::ceil(highest / scale.step));
  return scale;
}

std::string text_at(double x, double y, std::string_view anchor, std::string_view more,
                    std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" {}>{}</text>\n", x, y,
                     anchor, more, escaped(text));
}

std::string rule(double x1, double y1, double x2, double y2, std::string_view style) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2,
      y2, style);
}

std::string axes(const LinePlot& plot, const Scale& scale) {
  std::string svg;
  for (double value = 0; value <= scale.top + scale.step / 2; value += scale.step) {
    const double y = scale.y(value);
    svg += rule(kLeft, y, kRight, y, value == 0 ? "axis" : "grid");
    svg += text_at(kLeft - 8, y + 4, "end", "", fmt::format("{:g}", value));
  }
  const auto least = static_cast<std::uint64_t>(scale.least_log);
  const auto most = static_cast<std::uint64_t>(scale.most_log);
  for (std::uint64_t log = least; log <= most; log += 2) {
    const std::uint64_t bytes = std::uint64_t{1} << log;
    svg += rule(scale.x(bytes), kBottom, scale.x(bytes), kBottom + 5, "axis");
    svg += text_at(scale.x(bytes), kBottom + 21, "middle", "", size_label(bytes));
  }
  const double middle = (kTop + kBottom) / 2;
  svg += text_at((kLeft + kRight) / 2, kBottom + 48, "middle", "", plot.x_title);
  svg += text_at(20, middle, "middle", fmt::format("transform=\"rotate(-90 20 {:.1f})\"", middle),
                 plot.y_title);
  return svg;
}

std::string drawn(const PlotLine& line, const Scale& scale) {
  std::string path;
  std::string dots;
  for (const auto& [bytes, value] : line.points) {
    const double x = scale.x(bytes);
    const double y = scale.y(value);
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x, y);
    dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x, y,
                        line.colour);
  }
  return fmt::format("<polyline class=\"line\" stroke=\"{}\"{} points=\"{}\"/>\n{}", line.colour,
                     line.dashed ? " stroke-dasharray=\"6 5\"" : "", path, dots);
}

struct Label {
  const PlotLine* line;
  double end;  ///< where the line ends
  double y;    ///< where its label stands
};

/// Each label at the end of its line, moved so far that none covers another.
std::vector<Label> labels_of(const std::vector<PlotLine>& lines, const Scale& scale) {
  std::vector<Label> labels;
  for (const PlotLine& line : lines) {
    if (line.points.empty()) continue;
    const double end = scale.y(line.points.back().second);
    labels.push_back({&line, end, end});
  }
  std::ranges::sort(labels, {}, &Label::end);
  for (std::size_t i = 1; i < labels.size(); ++i) {
    labels[i].y = std::max(labels[i].y, labels[i - 1].y + kLabelHeight);
  }
  // Those that were pushed below the axis push back.
  double lowest = kBottom;
  for (std::size_t i = labels.size(); i-- > 0; lowest -= kLabelHeight) {
    labels[i].y = std::min(labels[i].y, lowest);
    lowest = labels[i].y;
  }
  return labels;
}

std::string drawn(const Label& label, const Scale& scale) {
  const double x = scale.x(label.line->points.back().first);
  return fmt::format(
             "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
             "stroke-opacity=\"0.5\"/>\n",
             x + 5, label.end, kRight + 18, label.y, label.line->colour) +
         text_at(kRight + 22, label.y + 4, "start",
                 fmt::format("class=\"label\" style=\"fill:{}\"", label.line->colour),
                 label.line->label);
}

}  // namespace

std::string to_svg(const LinePlot& plot) {
  const Scale scale = scale_of(plot);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" role=\"img\">\n<title>{2}</title>\n{3}",
      kWidth, kHeight, escaped(plot.title), kStyle);
  svg += text_at(kLeft, 30, "start", "class=\"title\"", plot.title);
  svg += text_at(kLeft, 52, "start", "", plot.subtitle);
  svg += axes(plot, scale);
  for (const PlotLine& line : plot.lines) {
    if (!line.points.empty()) svg += drawn(line, scale);
  }
  for (const Label& label : labels_of(plot.lines, scale)) svg += drawn(label, scale);
  return svg + "</svg>\n";
}

}  // namespace membrain
