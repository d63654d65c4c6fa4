// One run of a benchmark program: a child process whose figures are taken when it ends.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "tools/bench_figures.h"
#include "tools/outcome.h"
#include "tools/signals.h"

namespace membrain {

/// The folder of the benchmark programs: `named` if it is not empty, else where the build tree or
/// an installation keeps them, seen from this binary. Complains if they are not there.
[[nodiscard]] Outcome<std::string> find_bench_folder(const std::string& named);

struct BenchRunConfig {
  std::string folder;
  std::string_view program;
  std::span<const std::string> rows;
  std::uint64_t repetitions = 5;
  std::chrono::seconds limit{180};  ///< then it is ended, and its rows are not measured
};

/// How a run ended.
struct BenchRunEnd {
  bool interrupted = false;  ///< somebody asked this process to stop
  std::string failure;       ///< why figures are missing; empty if all went well
};

/// Runs the program for `rows` alone, repetitions interleaved at random, and adds what it measured
/// to `figures`. `tick` is called a few times a second meanwhile.
///
/// Threads  One. The process, and all that it started, has ended when this returns.
[[nodiscard]] BenchRunEnd run_bench(const BenchRunConfig& config, Signals& signals,
                                    const std::function<void()>& tick, BenchFigures& figures);

}  // namespace membrain
