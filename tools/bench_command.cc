// `membrain bench`: measures what is promised, here and now, and says what holds.

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "tools/bench_plot.h"
#include "tools/bench_progress.h"
#include "tools/bench_rows.h"
#include "tools/bench_run.h"
#include "tools/output.h"
#include "tools/program.h"
#include "tools/units.h"
#include "tools/version.h"

namespace membrain {
namespace {

constexpr std::uint64_t kPlotRepetitions = 3;
constexpr std::chrono::seconds kPlotExpected{8};  // for each size
constexpr double kBusyLoad = 0.5;                 // runnable threads, mean of a minute

struct BenchOptions {
  std::vector<std::string> only;
  bool json = false;
  std::string plot;
  std::string bench_dir;
  std::uint64_t repetitions = 5;
};

/// "AMD EPYC-Milan, 2 cores, Linux 6.18.5".
std::string machine() {
  std::ifstream file("/proc/cpuinfo");
  std::string processor = "unknown processor";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) {
      processor = line.substr(std::min(line.size(), line.find(": ") + 2));
      break;
    }
  }
  utsname system{};
  ::uname(&system);
  return fmt::format("{}, {} cores, {} {}", processor, std::thread::hardware_concurrency(),
                     system.sysname, system.release);
}

void warn(const std::string& text) {
  complain_aloud("bench", "warning: " + text);
}

/// What makes figures not worth believing.
void warn_of_circumstances() {
  if (kBuildType != "Release") {
    warn(
        fmt::format("this is a {} build: figures of a release build count (cmake --preset "
                    "release && cmake --build --preset release)",
                    kBuildType));
  }
  double load = 0;
  if (::getloadavg(&load, 1) == 1 && load > kBusyLoad) {
    warn(
        fmt::format("other work is going on (load {:.1f}): figures will be too low, and ratios "
                    "will scatter",
                    load));
  }
}

/// All that a run of the command needs and makes.
class Bench {
 public:
  Bench(Program& program, const BenchOptions& options, std::string folder)
      : program_(program), options_(options), folder_(std::move(folder)) {}

  /// False if it was interrupted.
  bool measure(const std::vector<BenchGroup>& groups);
  bool draw();

  [[nodiscard]] const std::vector<BenchRowResult>& results() const noexcept { return results_; }
  [[nodiscard]] const std::string& plot_failure() const noexcept { return plot_failure_; }
  void expect(const std::vector<BenchGroup>& groups);

 private:
  BenchRunEnd run(std::string_view program, const std::vector<std::string>& rows,
                  std::uint64_t repetitions, BenchFigures& figures);
  [[nodiscard]] std::chrono::seconds scaled(std::chrono::seconds time) const {
    return std::max(time * static_cast<std::int64_t>(options_.repetitions) / 5,
                    std::chrono::seconds(1));
  }

  Program& program_;
  const BenchOptions& options_;
  std::string folder_;
  BenchProgress progress_;
  std::vector<BenchRowResult> results_;
  std::string plot_failure_;
};

void Bench::expect(const std::vector<BenchGroup>& groups) {
  for (const BenchGroup& group : groups) {
    progress_.expect(std::string(group.about), scaled(group.expected));
  }
  if (options_.plot.empty()) return;
  for (const std::uint64_t bytes : plotted_sizes()) {
    progress_.expect(fmt::format("the plot, blocks of {}", format_size(bytes)), kPlotExpected);
  }
}

BenchRunEnd Bench::run(std::string_view program, const std::vector<std::string>& rows,
                       std::uint64_t repetitions, BenchFigures& figures) {
  BenchRunConfig config;
  config.folder = folder_;
  config.program = program;
  config.rows = rows;
  config.repetitions = repetitions;
  progress_.begin();
  BenchRunEnd end = run_bench(
      config, program_.signals, [this] { progress_.show(); }, figures);
  progress_.end();
  return end;
}

bool Bench::measure(const std::vector<BenchGroup>& groups) {
  for (const BenchGroup& group : groups) {
    BenchFigures figures;
    const BenchRunEnd end = run(group.program, rows_needed(group), options_.repetitions, figures);
    if (end.interrupted) return false;
    for (const BenchRowSpec& row : group.rows) {
      results_.push_back(judge(row, figures, end.failure));
      if (!options_.json) say(bench_table_line(results_.back()));
    }
  }
  return true;
}

bool Bench::draw() {
  BenchFigures figures;
  for (const std::uint64_t bytes : plotted_sizes()) {
    const BenchRunEnd end = run("transfer_bench", plotted_rows(bytes), kPlotRepetitions, figures);
    if (end.interrupted) return false;
    if (!end.failure.empty()) plot_failure_ = end.failure;
  }
  std::ofstream file(options_.plot);
  file << to_svg(bandwidth_plot(figures, machine()));
  file.close();
  if (!file) plot_failure_ = fmt::format("{} cannot be written", options_.plot);
  return true;
}

Exit verdict(const BenchOptions& options, const Bench& bench) {
  std::size_t measured = 0;
  std::size_t held = 0;
  for (const BenchRowResult& row : bench.results()) {
    measured += row.value ? 1 : 0;
    held += row.value && row.holds ? 1 : 0;
  }
  const std::size_t rows = bench.results().size();
  if (options.json) {
    say(to_json(bench.results()));
  } else {
    say(fmt::format("\n{} of {} targets hold{}\n", held, rows,
                    measured == rows ? "" : fmt::format(", {} not measured", rows - measured)));
  }
  if (!options.plot.empty() && bench.plot_failure().empty()) {
    complain_aloud("bench", "the plot is in " + options.plot);
  }
  if (!bench.plot_failure().empty()) return failed("bench", "the plot: " + bench.plot_failure());
  return measured == rows ? Exit::ok : Exit::failure;
}

/// Before minutes are spent on it.
Outcome<> check_plot(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty() || std::filesystem::is_directory(folder)) return {};
  return complain("--plot: there is no folder {}", folder.string());
}

Exit run_command(Program& program, const BenchOptions& options) {
  const Outcome<std::vector<BenchGroup>> groups = chosen_groups(options.only);
  if (!groups) {
    complain_aloud("bench", "--only: " + groups.error().text);
    return Exit::usage;
  }
  if (options.repetitions == 0 || options.repetitions > 100) {
    complain_aloud("bench", "--repetitions is 1 to 100");
    return Exit::usage;
  }
  const Outcome<std::string> folder = find_bench_folder(options.bench_dir);
  if (!folder) {
    complain_aloud("bench", folder.error().text);
    return options.bench_dir.empty() ? Exit::failure : Exit::usage;
  }
  if (const Outcome<> fine = check_plot(options.plot); !fine) {
    complain_aloud("bench", fine.error().text);
    return Exit::usage;
  }
  warn_of_circumstances();
  if (!options.json) {
    say(fmt::format("{}, medians of {}\n\n{}", machine(), options.repetitions, bench_table_head()));
  }
  Bench bench(program, options, *folder);
  bench.expect(*groups);
  const bool done = bench.measure(*groups) && (options.plot.empty() || bench.draw());
  if (!done) return failed("bench", "interrupted");
  return verdict(options, bench);
}

}  // namespace

Command bench_command(Program& program) {
  const auto options = std::make_shared<BenchOptions>();
  Command command("bench", "Measures this machine against every promised figure",
                  [&program, options] { return run_command(program, *options); });
  command
      .list("only", options->only, "NAME",
            "Measure this row alone; may be repeated (an unknown name lists them all)")
      .toggle("json", options->json, "Print one JSON object, {\"rows\": [...]}")
      .text("plot", options->plot, "FILE.svg",
            "Also draw bandwidth over block size, against raw UCX and memcpy; takes a minute more")
      .count("repetitions", options->repetitions, "Of each benchmark; medians are shown")
      .text("bench-dir", options->bench_dir, "DIR", "Where the benchmark programs are")
      .standard("../bench or ../libexec/membrain, from the binary");
  return command;
}

}  // namespace membrain
