// membrain-sim: as many schedules of simulated clusters as one likes.

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "tests/sim/last_words.h"
#include "tests/sim/plans.h"
#include "tests/sim/schedule.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/output.h"
#include "tools/progress.h"
#include "tools/units.h"

namespace membrain::sim {
namespace {

struct Options {
  std::uint64_t schedules = 1000;
  std::uint64_t seed = 1;
  std::uint64_t events = 0;
  std::uint64_t servers = 0;
  std::uint64_t shards = 0;
  std::uint64_t nodes = 0;
  std::uint64_t clients = 0;
  std::uint64_t most_violations = 10;
  std::string kind = "large";
  bool json = false;
  bool verbose = false;
};

struct Outcomes {
  Counts counts;
  std::uint64_t schedules = 0;
  std::uint64_t violations = 0;
  double seconds = 0;

  [[nodiscard]] double per_second(std::uint64_t count) const {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0;
  }
};

std::string kinds() {
  std::string known = "all (in turn)";
  for (const PlanKind& kind : plan_kinds()) known += fmt::format(", {}", kind.name);
  return "large (3 servers, 3 shards, 5 nodes, 20 clients), or small clusters: " + known;
}

const PlanKind& kind_of(const Options& options, std::uint64_t seed) {
  const PlanKind* const chosen = plan_kind(options.kind);
  return chosen != nullptr ? *chosen : plan_kinds()[seed % plan_kinds().size()];
}

Plan plan_for(const Options& options, const PlanKind& kind, std::uint64_t seed) {
  Plan plan = plan_of(kind, seed);
  plan.least_events = options.events;
  if (options.servers != 0) plan.servers = options.servers;
  if (options.shards != 0) plan.shards = options.shards;
  if (options.nodes != 0) plan.nodes = options.nodes;
  if (options.clients != 0) plan.clients = options.clients;
  return plan;
}

std::string replay_line(const Options& options, const PlanKind& kind, std::uint64_t seed) {
  std::string line = fmt::format("membrain-sim --kind {} --seed {} --schedules 1", kind.name, seed);
  const std::pair<const char*, std::uint64_t> sizes[] = {{"events", options.events},
                                                         {"servers", options.servers},
                                                         {"shards", options.shards},
                                                         {"nodes", options.nodes},
                                                         {"clients", options.clients}};
  for (const auto& [name, value] : sizes) {
    if (value != 0) line += fmt::format(" --{} {}", name, value);
  }
  return line;
}

Outcomes run_all(const Options& options) {
  const SteadyClock clock;
  const TimePoint began = clock.now();
  Outcomes all;
  Progress progress(options.schedules);
  for (std::uint64_t i = 0; i < options.schedules; ++i) {
    const std::uint64_t seed = options.seed + i;
    const PlanKind& kind = kind_of(options, seed);
    set_last_words(
        fmt::format("membrain sim: schedule {} of this run ended the process\n"
                    "  replay: {}\n",
                    i + 1, replay_line(options, kind, seed)));
    Schedule schedule(plan_for(options, kind, seed));
    const std::vector<std::string> violations = schedule.run();
    ++all.schedules;
    all.counts.add(schedule.counts());
    if (!violations.empty()) {
      ++all.violations;
      progress.clear();
      complain_aloud("sim", fmt::format("{}\n  replay: {}", violations.front(),
                                        replay_line(options, kind, seed)));
      if (all.violations == options.most_violations) break;
    }
    if (const TimePoint now = clock.now(); progress.due(now)) {
      progress.show(now, i + 1, fmt::format("{} violations", all.violations));
    }
  }
  all.seconds = std::chrono::duration<double>(clock.now() - began).count();
  return all;
}

std::string json_of(const Outcomes& all) {
  nlohmann::ordered_json object;
  object["schedules"] = all.schedules;
  object["events"] = all.counts.events;
  auto& faults = object["faults"] = nlohmann::ordered_json::object();
  for (const auto& [kind, times] : all.counts.faults) faults[std::string(kind)] = times;
  auto& met = object["met"] = nlohmann::ordered_json::object();
  for (const auto& [what, times] : all.counts.met) met[std::string(what)] = times;
  object["violations"] = all.violations;
  object["schedules_per_s"] = all.per_second(all.schedules);
  object["events_per_s"] = all.per_second(all.counts.events);
  object["lookups"] = all.counts.lookups;
  object["fetched"] = all.counts.fetched;
  object["stored"] = all.counts.stored;
  object["terms"] = all.counts.terms;
  return object.dump(2) + "\n";
}

std::string table_of(const Outcomes& all) {
  const Counts& counts = all.counts;
  std::string text = fmt::format(
      "{} schedules, {} events, {:.0f} schedules/s, {} events/s\n"
      "{} lookups, {} blocks fetched, {} stored, {} terms\n",
      format_count(all.schedules), format_count(counts.events), all.per_second(all.schedules),
      format_count(static_cast<std::uint64_t>(all.per_second(counts.events))),
      format_count(counts.lookups), format_count(counts.fetched), format_count(counts.stored),
      format_count(counts.terms));
  for (const auto& [kind, times] : counts.faults) {
    text += fmt::format("  {:<34} {:>12}\n", kind, format_count(times));
  }
  for (const auto& [what, times] : counts.met) {
    text += fmt::format("  met: {:<40} {:>12}\n", what, format_count(times));
  }
  return text + fmt::format("{} violations\n", all.violations);
}

Exit run(const Options& options) {
  set_log_level(options.verbose ? LogLevel::debug : LogLevel::error);
  if (options.kind != "all" && plan_kind(options.kind) == nullptr) {
    complain_aloud("sim",
                   fmt::format("--kind: there is no {}; there are {}", options.kind, kinds()));
    return Exit::usage;
  }
  keep_last_words();
  const Outcomes all = run_all(options);
  say(options.json ? json_of(all) : table_of(all));
  return all.violations == 0 ? Exit::ok : Exit::failure;
}

Command sim_command(Options& options) {
  Command command("sim", "Runs schedules of simulated clusters with faults, and checks each event",
                  [&options] { return run(options); });
  command.count("schedules", options.schedules, "How many")
      .count("seed", options.seed, "Of the first; the next ones count on")
      .count("events", options.events, "More work and faults until so much has happened in each")
      .text("kind", options.kind, "KIND", kinds())
      .count("servers", options.servers, "In each cluster")
      .standard("the kind's")
      .count("shards", options.shards, "In each cluster, at first")
      .standard("the kind's")
      .count("nodes", options.nodes, "In each cluster")
      .standard("the kind's")
      .count("clients", options.clients, "In each cluster")
      .standard("the kind's")
      .count("most-violations", options.most_violations, "Stop after so many failed schedules")
      .toggle("json", options.json, "Print one JSON object")
      .toggle("verbose", options.verbose, "Log what everybody in the cluster says");
  return command;
}

Exit main_of(std::vector<std::string> words) {
  Options options;
  const std::vector<Command> commands{sim_command(options)};
  words.insert(words.begin(), "sim");
  const Outcome<Intent> intent = parse_command_line(commands, words, {});
  if (!intent) {
    complain_aloud("sim", intent.error().text);
    return Exit::usage;
  }
  if (intent->command == nullptr) {
    say(intent->answer);
    return Exit::ok;
  }
  return intent->command->run();
}

}  // namespace
}  // namespace membrain::sim

int main(int argc, char** argv) {
  // Clusters come and go by the thousand: their memory stays with the process.
  constexpr int kKept = 256 << 20;
  ::mallopt(M_MMAP_THRESHOLD, kKept);
  ::mallopt(M_TRIM_THRESHOLD, kKept);
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  return static_cast<int>(membrain::sim::main_of(words));
}
