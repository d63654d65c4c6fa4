// The picture of `membrain bench`: bandwidth over block size.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tools/bench_figures.h"
#include "tools/line_plot.h"

namespace membrain {

/// From 4 KiB to 16 MiB.
[[nodiscard]] std::span<const std::uint64_t> plotted_sizes();
/// Rows of transfer_bench that are drawn at this size.
[[nodiscard]] std::vector<std::string> plotted_rows(std::uint64_t bytes);
/// What was measured of them. `machine` says on which one.
[[nodiscard]] LinePlot bandwidth_plot(const BenchFigures& figures, const std::string& machine);

}  // namespace membrain
