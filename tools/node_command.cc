// `membrain node`: keeps blocks in shared memory until it is told to stop.

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "base/log.h"
#include "protocol/servers.h"
#include "tools/findings.h"
#include "tools/output.h"
#include "tools/program.h"
#include "tools/running_node.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::chrono::seconds kTellEvery(10);
constexpr std::chrono::milliseconds kLook(50);
/// Answers that name this node alone were given until just now: their readers get so long.
constexpr std::chrono::seconds kLinger(2);
/// A shard is without a leader for a lease at most, and a node may need a retry to find the next.
constexpr std::chrono::seconds kWithoutServers(15);

struct NodeCommand {
  NodeOptions node;
  std::chrono::milliseconds drain{0};
  bool until_eof = false;
};

/// False if a second signal came first.
bool pass(std::chrono::nanoseconds time, Signals& signals) {
  for (const TimePoint end = SteadyClock().now() + time; SteadyClock().now() < end;) {
    pollfd stop{signals.fd(), POLLIN, 0};
    ::poll(&stop, 1, static_cast<int>(kLook.count()));
    if (signals.asked_again()) return false;
  }
  return true;
}

std::string left_here(const NodeStatus& status) {
  return fmt::format(
      "{} block parts are nowhere else, {} of {} shards have all of theirs elsewhere",
      status.alone_blocks, status.left_shards, status.shards);
}

/// Why it cannot be waited for any longer that all is elsewhere; empty while it can.
std::string no_more(const NodeCommand& command, TimePoint began, TimePoint connected) {
  const TimePoint now = SteadyClock().now();
  if (now - connected > kWithoutServers) return "not every shard has a server that it can reach";
  return now - began < command.drain ? "" : "--drain is over";
}

/// What is here alone goes to other nodes first, while this one serves on. A shard may be between
/// two leaders just now: the next one is told, too.
void drain(RunningNode& node, const NodeCommand& command, Signals& signals) {
  const std::string& name = command.node.name;
  log(LogLevel::info, "node {}: draining for {} s at most; one more signal ends it at once", name,
      std::chrono::duration<double>(command.drain).count());
  node.leave();
  const TimePoint began = SteadyClock().now();
  TimePoint connected = began;
  TimePoint next = began + kTellEvery;
  while (!node.status().drained()) {
    if (node.status().connected) connected = SteadyClock().now();
    std::string why = no_more(command, began, connected);
    if (why.empty() && !pass(kLook, signals)) why = "it was told again";
    if (!why.empty()) {
      return log(LogLevel::warn, "node {}: {}, and leaves nevertheless: {}; {}", name,
                 left_here(node.status()), why, "is there room on other nodes (membrain status)?");
    }
    if (SteadyClock().now() < next) continue;
    next += kTellEvery;
    log(LogLevel::info, "node {}: {}", name, left_here(node.status()));
  }
  log(LogLevel::info, "node {}: drained: whatever it has is elsewhere too", name);
  static_cast<void>(pass(kLinger, signals));
}

Exit run_node(Program& program, NodeCommand command) {
  NodeOptions& options = command.node;
  Outcome<std::string> secret = program.common.secret(program.environment);
  if (!secret) return failed("node", secret.error().text);
  options.secret = std::move(*secret);
  if (options.capacity_bytes == 0) {
    complain_aloud("node", "--capacity must be more than 0, for example 4GiB");
    return Exit::usage;
  }
  warn_of_machine();
  UcxContextConfig ucx;
  ucx.loopback_only =
      is_loopback(options.listen) && std::ranges::all_of(Servers(options.server), is_loopback);
  Result<std::shared_ptr<UcxContext>> context = UcxContext::create(ucx);
  if (!context) return failed("node", "UCX cannot be used: " + in_words(context.error()));
  const Outcome<std::unique_ptr<RunningNode>> node =
      RunningNode::start(options, std::move(*context));
  if (!node) return failed("node", node.error().text);
  log(LogLevel::info, "node {}: {} in {}, listening on {}", options.name,
      format_size(options.capacity_bytes), options.directory, (*node)->address());
  while (!(*node)->wait_connected(SteadyClock().now() + kTellEvery, program.signals)) {
    if (program.signals.stop_asked()) return Exit::ok;
    const NodeStatus status = (*node)->status();
    log(LogLevel::warn, "{} of {} shards have taken this node in yet, asked for at {}; trying on",
        status.connected_shards, status.shards, options.server);
  }
  say(fmt::format("membrain node ready {} name {}\n", (*node)->address(), options.name));
  program.signals.wait_for_stop(command.until_eof);
  if (command.drain.count() > 0) drain(**node, command, program.signals);
  log(LogLevel::info, "node {}: stopping", options.name);
  return Exit::ok;
}

}  // namespace

Command node_command(Program& program) {
  const auto options = std::make_shared<NodeCommand>();
  Command command("node", "Runs a node: keeps blocks in an arena in shared memory",
                  [&program, options] { return run_node(program, *options); });
  NodeOptions& node = options->node;
  command.servers("server", node.server, "The metadata server")
      .size("capacity", node.capacity_bytes, "Memory for blocks, reserved at once")
      .required()
      .text("name", node.name, "NAME", "Of the arena's file; one node of a name on a machine")
      .text("zone", node.zone, "ZONE",
            "Rack or availability zone: replicas may be spread over them (server --zone-rule)")
      .address("listen", node.listen, "Where clients make first contact; port 0: any")
      .text("directory", node.directory, "DIR", "Where the arena's file lies: a tmpfs or hugetlbfs")
      .toggle("one-sided-reads", node.one_sided_reads,
              "Let clients that ask for it read all blocks by RDMA alone, without asking")
      .duration("drain", options->drain,
                "When told to stop, have what no other node has copied first, for so long at most")
      .toggle("fresh", node.fresh, "Forget what an earlier life left in the arena")
      .toggle("temporary", node.temporary, "Leave no arena behind")
      .toggle("until-eof", options->until_eof, "Stop when standard input ends")
      .hide_option();
  return command.serves();
}

}  // namespace membrain
