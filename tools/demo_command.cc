// `membrain demo`: a cluster on this machine in which engines share what they computed.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "tools/output.h"
#include "tools/program.h"
#include "tools/python_demo.h"
#include "tools/replay.h"
#include "tools/story.h"
#include "tools/units.h"
#include "tools/workload.h"

namespace membrain {
namespace {

constexpr std::uint64_t kLinesOfAKind = 6;

struct DemoOptions {
  ReplayOptions replay;
  std::uint64_t seed = 1;
  bool python = false;
};

ReplayOptions demo_defaults() {
  ReplayOptions replay;
  replay.command = "demo";
  replay.requests = 400;
  replay.instances = 2;
  replay.nodes = 2;
  replay.speed = 10;
  return replay;
}

/// Shows the first events of each kind, and counts the rest.
class Narrator {
 public:
  explicit Narrator(bool everything) : everything_(everything) {}

  void tell(std::size_t engine, const EngineReport& report) {
    for (const Event& event : events_of(engine, report)) {
      const std::uint64_t told = ++seen_[static_cast<std::size_t>(event.kind)];
      if (everything_ || told <= kLinesOfAKind) say(event.text + "\n");
    }
  }

  void finish() const {
    constexpr std::array<std::string_view, 2> kNames{"STORE", "HIT"};
    for (std::size_t kind = 0; kind < seen_.size(); ++kind) {
      if (everything_ || seen_[kind] <= kLinesOfAKind) continue;
      say(fmt::format("MEMBRAIN {:<5} {} more (-v shows them all)\n", kNames[kind],
                      format_count(seen_[kind] - kLinesOfAKind)));
    }
  }

 private:
  bool everything_;
  std::array<std::uint64_t, 2> seen_{};
};

Outcome<std::vector<TraceRequest>> requests_of(const DemoOptions& options) {
  if (!options.replay.trace.empty()) {
    return read_trace(options.replay.trace, options.replay.requests);
  }
  WorkloadConfig config;
  config.seed = options.seed;
  config.requests = static_cast<std::uint32_t>(std::min<std::uint64_t>(
      options.replay.requests == 0 ? 400 : options.replay.requests, 1'000'000));
  return make_workload(config);
}

Exit verdict(const Outcome<>& played, const Totals& totals) {
  if (!played) return failed("demo", played.error().text);
  if (totals.wrong_bytes != 0) return failed("demo", "bytes were wrong");
  if (totals.engines_lost != 0) return failed("demo", "an engine died");
  if (totals.instances > 1 && totals.blocks_hit_across_instances == 0) {
    return failed("demo", "no engine found a block of another");
  }
  say(
      fmt::format("\n{} engines reused {} blocks ({} of them computed by another engine), "
                  "every byte right\n",
                  totals.instances, format_count(totals.blocks_hit),
                  format_count(totals.blocks_hit_across_instances)));
  return Exit::ok;
}

Exit run_demo(Program& program, const DemoOptions& options) {
  if (options.python) return failed("demo", become_python_demo().error().text);
  if (const Outcome<> sane = check_options(options.replay); !sane) {
    complain_aloud("demo", sane.error().text);
    return Exit::usage;
  }
  const Outcome<std::vector<TraceRequest>> requests = requests_of(options);
  if (!requests) return failed("demo", requests.error().text);
  say(fmt::format(
      "A metadata server, {} nodes and {} engines, each a process of its own, play {} requests\n"
      "({}). Blocks of {}, {} of them distinct.\n\n",
      options.replay.nodes, options.replay.instances, format_count(requests->size()),
      options.replay.trace.empty() ? "conversations made up from a seed" : options.replay.trace,
      format_size(options.replay.block_bytes), format_count(distinct_blocks(*requests))));
  Narrator narrator(log_enabled(LogLevel::debug));
  const auto observer = [&narrator](std::size_t engine, const TraceRequest&,
                                    const EngineReport& report) { narrator.tell(engine, report); };
  Totals totals;
  const Outcome<> played = play(program, options.replay, *requests, observer, totals);
  narrator.finish();
  if (totals.requests != 0) say(to_table(totals));
  return verdict(played, totals);
}

}  // namespace

Command demo_command(Program& program) {
  const auto options = std::make_shared<DemoOptions>();
  options->replay = demo_defaults();
  Command command("demo",
                  "Shows a server, two nodes and two engines sharing blocks on this machine",
                  [&program, options] { return run_demo(program, *options); });
  command
      .text("trace", options->replay.trace, "FILE",
            "Play this trace (a JSON object per line, Mooncake's format) instead of conversations "
            "made up from a seed")
      .count("requests", options->replay.requests, "Play so many requests");
  bind_replay_options(command, options->replay);
  command.count("seed", options->seed, "Of the conversations that are made up without --trace");
  command.toggle("python", options->python,
                 "Two engines in Python instead, with a server at 127.0.0.1:9201");
  return command;
}

}  // namespace membrain
