// `membrain server`: the metadata server, with a node in the same process if asked.

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "base/log.h"
#include "tools/findings.h"
#include "tools/output.h"
#include "tools/program.h"
#include "tools/running_node.h"
#include "tools/running_server.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::chrono::seconds kNodePatience(60);

struct ServerCommand {
  static constexpr std::uint64_t kNoNode = UINT64_MAX;

  ServerOptions server;
  NodeOptions node;
  std::uint64_t with_node = kNoNode;  ///< bytes for blocks
  bool until_eof = false;
};

/// $XDG_STATE_HOME/membrain, else ~/.local/state/membrain.
std::string default_state_dir() {
  if (const char* const state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != 0) {
    return std::string(state) + "/membrain";
  }
  const char* const home = std::getenv("HOME");
  return std::string(home == nullptr ? "." : home) + "/.local/state/membrain";
}

/// The embedded node; null if none is wanted.
Outcome<std::unique_ptr<RunningNode>> start_node(Program& program, const ServerCommand& options,
                                                 const std::string& server,
                                                 std::shared_ptr<UcxContext> context) {
  if (options.with_node == ServerCommand::kNoNode) return nullptr;
  NodeOptions node_options = options.node;
  node_options.capacity_bytes = options.with_node;
  node_options.server = server;
  node_options.secret = options.server.secret;
  node_options.temporary = options.server.temporary;
  Outcome<std::unique_ptr<RunningNode>> node = RunningNode::start(node_options, std::move(context));
  if (!node) return node;
  if (!(*node)->wait_connected(SteadyClock().now() + kNodePatience, program.signals)) {
    return complain("the node was not ready in time");
  }
  return node;
}

std::string ready_line(const RunningServer& server, const RunningNode* node) {
  std::string line = fmt::format("membrain server ready {}", server.address());
  if (!server.admin_address().empty()) line += " admin " + server.admin_address();
  if (node != nullptr) line += " node " + node->address();
  return line + "\n";
}

Outcome<> check_options(const ServerCommand& options) {
  if (options.with_node == 0) {
    return complain("--with-node must be more than 0, for example 4GiB");
  }
  if (options.server.shards == 0 || options.server.shards > wire::kMaxShards) {
    return complain("--shards must be 1 to {}", wire::kMaxShards);
  }
  if (options.server.shard_ports > UINT16_MAX - wire::kMaxShards) {
    return complain("--shard-ports must be at most {}", UINT16_MAX - wire::kMaxShards);
  }
  if (const Outcome<ReplicaRule> rule = options.server.copies.rule(); !rule) {
    return tl::unexpected(rule.error());
  }
  if (const Outcome<> sane = options.server.etcd.check(); !sane) return sane;
  return options.server.etcd.check_listen(options.server.listen);
}

/// Without a secret whoever reaches the port is one of us.
void warn_of_strangers(const ServerCommand& options) {
  const bool node = options.with_node != ServerCommand::kNoNode;
  const bool reached =
      !is_loopback(options.server.listen) || (node && !is_loopback(options.node.listen));
  if (!options.server.secret.empty() || !reached) return;
  log(LogLevel::warn,
      "server: {} can be reached from other machines, and there is no secret: whoever reaches it "
      "may read and store blocks; give servers, nodes and engines one (MEMBRAIN_SECRET, "
      "--secret-file)",
      is_loopback(options.server.listen) ? options.node.listen : options.server.listen);
}

Exit run_server(Program& program, ServerCommand options) {
  Outcome<std::string> secret = program.common.secret(program.environment);
  if (!secret) return failed("server", secret.error().text);
  options.server.secret = std::move(*secret);
  if (const Outcome<> sane = check_options(options); !sane) {
    complain_aloud("server", sane.error().text);
    return Exit::usage;
  }
  if (options.server.state_dir.empty()) options.server.state_dir = default_state_dir();
  warn_of_machine();
  warn_of_strangers(options);
  UcxContextConfig ucx;
  ucx.loopback_only = is_loopback(options.server.listen) && is_loopback(options.node.listen);
  const Result<std::shared_ptr<UcxContext>> context = UcxContext::create(ucx);
  if (!context) return failed("server", "UCX cannot be used: " + in_words(context.error()));
  const Outcome<std::unique_ptr<RunningServer>> server =
      RunningServer::start(options.server, *context);
  if (!server) return failed("server", server.error().text);
  const Outcome<std::unique_ptr<RunningNode>> node =
      start_node(program, options, (*server)->address(), *context);
  if (program.signals.stop_asked()) return Exit::ok;
  if (!node) return failed("server", node.error().text);
  say(ready_line(**server, node->get()));
  program.signals.wait_for_stop(options.until_eof);
  log(LogLevel::info, "server: stopping");
  return Exit::ok;
}

}  // namespace

Command server_command(Program& program) {
  const auto options = std::make_shared<ServerCommand>();
  Command command("server", "Runs the metadata server",
                  [&program, options] { return run_server(program, *options); });
  ServerOptions& server = options->server;
  command.address("listen", server.listen, "Where clients and nodes make first contact")
      .address("admin", server.admin, "Where /healthz and /status are served over HTTP")
      .toggle("no-admin", server.no_admin, "Serve no HTTP")
      .size("with-node", options->with_node,
            "Run a node with so much memory for blocks in this process")
      .standard("no node")
      .text("node-name", options->node.name, "NAME", "Of that node's arena")
      .address("node-listen", options->node.listen, "Where clients reach that node; port 0: any")
      .text("node-zone", options->node.zone, "ZONE", "Of that node, as membrain node --zone")
      .toggle("one-sided-reads", options->node.one_sided_reads,
              "Let clients that ask for it read that node's blocks by RDMA alone, without asking")
      .text("state-dir", server.state_dir, "DIR", "Where epoch and eras are kept")
      .standard("$XDG_STATE_HOME/membrain")
      .toggle("temporary", server.temporary, "Keep nothing on disk, leave no arena behind")
      .count("shards", server.shards,
             "Into how many shards a cluster's first server divides the keys: a thread each")
      .count("shard-ports", server.shard_ports,
             "Where the second shard listens; the third has the port behind it, and so on")
      .standard("any free ports")
      .choice("leader-watch", server.leader_watch,
              "Have a leader whose process has died followed at once, not when its lease ends")
      .count("expected-blocks", server.expected_blocks, "Make room for so many blocks at once")
      .toggle("until-eof", options->until_eof, "Stop when standard input ends")
      .hide_option();
  server.copies.bind(command);
  server.etcd.bind(command);
  return command.serves();
}

}  // namespace membrain
