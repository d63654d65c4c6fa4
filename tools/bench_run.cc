#include "tools/bench_run.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <vector>

#include "base/clock.h"
#include "tools/bench_rows.h"
#include "tools/child.h"
#include "tools/units.h"

namespace membrain {
namespace {

namespace fs = std::filesystem;

constexpr int kTickMs = 200;
constexpr std::string_view kEveryBuildHas = "transfer_bench";

bool holds_benchmarks(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / kEveryBuildHas, ignored);
}

/// A file that goes when this does.
class ScratchFile {
 public:
  ScratchFile() {
    std::array<char, 32> name{"/tmp/membrain-bench-XXXXXX"};
    const int fd = ::mkstemp(name.data());
    if (fd < 0) return;
    ::close(fd);
    path_ = name.data();
  }
  ~ScratchFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string text() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

 private:
  std::string path_;
};

ChildConfig child_of(const BenchRunConfig& config, const std::string& out) {
  ChildConfig child;
  child.name = config.program;
  child.program = (fs::path(config.folder) / config.program).string();
  child.errors_too = true;
  child.words = {"--benchmark_filter=" + filter_for(config.rows),
                 "--benchmark_repetitions=" + std::to_string(config.repetitions),
                 "--benchmark_enable_random_interleaving=true", "--benchmark_out=" + out,
                 "--benchmark_out_format=json"};
  return child;
}

/// Takes what it has printed so far.
void listen(Child& child, std::string& last_words) {
  static_cast<void>(child.fill());
  while (const std::optional<std::string> line = child.next_line()) {
    if (!line->empty()) last_words = *line;
  }
}

/// Waits until it ends; empty if it did, else why it was ended before.
std::string wait_for_end(Child& child, TimePoint deadline, Signals& signals,
                         const std::function<void()>& tick, std::string& last_words) {
  while (!child.ended()) {
    std::array<pollfd, 2> fds{{{child.fd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    static_cast<void>(::poll(fds.data(), fds.size(), kTickMs));
    listen(child, last_words);
    if (signals.stop_asked()) return "interrupted";
    if (SteadyClock().now() >= deadline) return "it took too long";
    tick();
  }
  listen(child, last_words);  // said between the last look and the end
  return {};
}

}  // namespace

Outcome<std::string> find_bench_folder(const std::string& named) {
  if (!named.empty()) {
    if (holds_benchmarks(named)) return named;
    return complain("--bench-dir: there is no {} in {}", kEveryBuildHas, named);
  }
  std::error_code failed;
  const fs::path here = fs::read_symlink("/proc/self/exe", failed).parent_path();
  const std::array<fs::path, 2> places{(here / "../bench").lexically_normal(),
                                       (here / "../libexec/membrain").lexically_normal()};
  for (const fs::path& place : places) {
    if (holds_benchmarks(place)) return place.string();
  }
  return complain(
      "the benchmark programs are neither in {} nor in {}: build them (cmake --preset release && "
      "cmake --build --preset release), or name their folder with --bench-dir",
      places[0].string(), places[1].string());
}

BenchRunEnd run_bench(const BenchRunConfig& config, Signals& signals,
                      const std::function<void()>& tick, BenchFigures& figures) {
  const ScratchFile out;
  if (out.path().empty()) return {false, "no file can be made in /tmp"};
  Outcome<std::unique_ptr<Child>> child = Child::start(child_of(config, out.path()));
  if (!child) return {false, child.error().text};
  const TimePoint deadline = SteadyClock().now() + config.limit;
  std::string last_words;
  const std::string cut = wait_for_end(**child, deadline, signals, tick, last_words);
  if (!cut.empty()) (*child)->kill_now();
  (*child)->stop(std::chrono::seconds(10));
  if (signals.stop_asked()) return {true, "interrupted"};
  if (!cut.empty()) return {false, std::string(config.program).append(": ").append(cut)};
  const std::string how = (*child)->ended().value_or("still running");
  if (how != "exit status 0") {
    return {false, fmt::format("{} ended badly ({}): {}", config.program, how, last_words)};
  }
  // Nothing is written if it has none of the rows: that is said row by row.
  static_cast<void>(figures.add(out.text()));
  return {};
}

}  // namespace membrain
