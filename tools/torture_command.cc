// `membrain torture`: hurts a cluster of its own for some minutes, and checks everything.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/mac.h"
#include "protocol/messages.h"
#include "tools/output.h"
#include "tools/torture.h"
#include "tools/torture_commands.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::chrono::hours kLongest(7 * 24);
constexpr double kMostMinutes = 1e6;  ///< that are turned into a duration at all
constexpr std::uint64_t kMaxEngines = 64;
constexpr std::uint64_t kMaxNodes = 16;
constexpr std::uint64_t kMaxServers = 8;
constexpr std::uint64_t kMaxShards = 16;
constexpr std::uint64_t kMaxBlockBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kLeastBlockBytes = 64;
constexpr std::uint64_t kBlocksInArena = 8;  ///< of the largest, at least

struct TortureCommand {
  TortureOptions torture;
  std::string minutes = "1";
  bool no_etcd = false;
  bool json = false;
};

Outcome<> check_options(const TortureCommand& command) {
  const TortureOptions& options = command.torture;
  if (options.length.count() == 0 || options.length > kLongest) {
    return complain("--minutes \"{}\" is no number more than 0 and at most {}", command.minutes,
                    std::chrono::duration_cast<std::chrono::minutes>(kLongest).count());
  }
  if (options.engines == 0 || options.engines > kMaxEngines) {
    return complain("--engines must be 1 to {}", kMaxEngines);
  }
  if (options.house.nodes == 0 || options.house.nodes > kMaxNodes) {
    return complain("--nodes must be 1 to {}", kMaxNodes);
  }
  if (options.house.servers == 0 || options.house.servers > kMaxServers) {
    return complain("--servers must be 1 to {}", kMaxServers);
  }
  if (options.house.shards == 0 || options.house.shards > kMaxShards) {
    return complain("--shards must be 1 to {}", kMaxShards);
  }
  if (options.house.replicas == 0 || options.house.replicas > wire::kMaxReplicas) {
    return complain("--replicas must be 1 to {}", wire::kMaxReplicas);
  }
  if (options.block_bytes < kLeastBlockBytes || options.block_bytes > kMaxBlockBytes) {
    return complain("--block-bytes must be {} to {}", format_size(kLeastBlockBytes),
                    format_size(kMaxBlockBytes));
  }
  if (options.house.arena_bytes < kBlocksInArena * options.block_bytes) {
    return complain("--arena must be at least {} blocks: {}", kBlocksInArena,
                    format_size(kBlocksInArena * options.block_bytes));
  }
  if (options.timeout < std::chrono::milliseconds(100)) {
    return complain("--timeout must be at least 100ms");
  }
  return {};
}

Exit run_torture(Program& program, TortureCommand command) {
  TortureOptions& options = command.torture;
  const double minutes = parse_speed(command.minutes).value_or(0);
  options.length =
      std::chrono::milliseconds(std::llround(60'000 * std::min(minutes, kMostMinutes)));
  if (const Outcome<> sane = check_options(command); !sane) {
    complain_aloud("torture", sane.error().text);
    return Exit::usage;
  }
  if (command.no_etcd) options.house.members = 0, options.house.servers = 1;
  if (options.seed == 0) options.seed = 1 + random_u64() % 1'000'000;
  TortureReport report;
  Outcome<> ran;
  {
    Torture torture(options, program.signals, report);
    ran = torture.run();
  }
  if (report.operation_count() > 0) say(command.json ? to_json(report) : to_table(report));
  if (!ran) return failed("torture", ran.error().text);
  if (report.sound()) return Exit::ok;
  return failed("torture", fmt::format("something is wrong: --seed {} does it again, more or less",
                                       options.seed));
}

}  // namespace

Command torture_command(Program& program) {
  const auto options = std::make_shared<TortureCommand>();
  Command command("torture",
                  "Hurts a cluster of its own for some minutes: no wrong byte, no hang, no leak",
                  [&program, options] { return run_torture(program, *options); });
  TortureOptions& torture = options->torture;
  command.text("minutes", options->minutes, "M", "How long; 0.5 is half a minute")
      .count("seed", torture.seed, "Of what engines do and which faults come")
      .standard("random")
      .count("engines", torture.engines, "Engine processes")
      .count("nodes", torture.house.nodes, "Node processes")
      .count("servers", torture.house.servers, "Server processes")
      .count("shards", torture.house.shards, "Into how many shards the keys are divided")
      .count("replicas", torture.house.replicas, "Nodes that are to keep a block")
      .size("block-bytes", torture.block_bytes, "Size of the largest block")
      .size("arena", torture.house.arena_bytes, "Memory of each node: little, so that it evicts")
      .duration("timeout", torture.timeout, "The longest that one operation may take")
      .toggle("no-etcd", options->no_etcd, "One server, and no etcd")
      .toggle("json", options->json, "Print one JSON object instead of a table");
  return command;
}

}  // namespace membrain
