#include "tools/bench_plot.h"

#include <array>
#include <optional>
#include <string_view>

namespace membrain {
namespace {

constexpr std::array<std::uint64_t, 7> kSizes{4 << 10, 16 << 10, 64 << 10, 256 << 10,
                                              1 << 20, 4 << 20,  16 << 20};

struct Drawn {
  std::string_view row;  ///< without its size
  std::string_view label;
  std::string_view colour;
  bool dashed;  ///< what Membrain is held against
};

constexpr std::array<Drawn, 6> kDrawn{{{"memcpy/", "memcpy", "#8c959f", true},
                                       {"fetch_mapped/", "fetch, mapped", "#2da44e", false},
                                       {"raw/shm/", "raw UCX, shared memory", "#d29922", true},
                                       {"fetch/shm/", "fetch, shared memory", "#d29922", false},
                                       {"raw/tcp/", "raw UCX, TCP", "#388bfd", true},
                                       {"fetch/tcp/", "fetch, TCP", "#388bfd", false}}};

std::string row_of(const Drawn& drawn, std::uint64_t bytes) {
  return std::string(drawn.row).append(std::to_string(bytes));
}

}  // namespace

std::span<const std::uint64_t> plotted_sizes() {
  return kSizes;
}

std::vector<std::string> plotted_rows(std::uint64_t bytes) {
  std::vector<std::string> rows;
  for (const Drawn& drawn : kDrawn) rows.push_back(row_of(drawn, bytes));
  return rows;
}

LinePlot bandwidth_plot(const BenchFigures& figures, const std::string& machine) {
  LinePlot plot;
  plot.title = "Bandwidth of one client on one host";
  plot.subtitle = machine + " (dashed: what it is held against)";
  plot.x_title = "block size";
  plot.y_title = "GB/s, median (hashing declined)";
  for (const Drawn& drawn : kDrawn) {
    PlotLine line{std::string(drawn.label), std::string(drawn.colour), drawn.dashed, {}};
    for (const std::uint64_t bytes : kSizes) {
      const std::optional<double> value = figures.find(row_of(drawn, bytes), "bytes_per_second");
      if (value) line.points.emplace_back(bytes, *value * 1e-9);
    }
    plot.lines.push_back(std::move(line));
  }
  return plot;
}

}  // namespace membrain
