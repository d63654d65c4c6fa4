#include "tools/replay.h"

#include <memory>

#include "base/log.h"
#include "tools/cluster.h"
#include "tools/output.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::uint64_t kMaxInstances = 256;
constexpr std::uint64_t kMaxNodes = 64;
constexpr std::uint64_t kWorthAWord = std::uint64_t{1} << 30;  ///< it takes seconds

/// Processes that we start log as we do.
std::string level_of_children() {
  if (log_enabled(LogLevel::debug)) return "debug";
  if (log_enabled(LogLevel::info)) return "info";
  return log_enabled(LogLevel::warn) ? "warn" : "error";
}

/// A server and nodes that end with the replay.
Outcome<std::unique_ptr<LocalCluster>> start_cluster(Program& program, const ReplayOptions& options,
                                                     const std::vector<TraceRequest>& requests) {
  const std::uint64_t blocks = distinct_blocks(requests);
  ClusterConfig config;
  config.nodes = static_cast<std::uint32_t>(options.nodes);
  config.capacity_bytes = options.capacity_bytes != ReplayOptions::kEnoughForAll
                              ? options.capacity_bytes
                              : capacity_for(blocks, options.block_bytes);
  config.expected_blocks = blocks;
  config.log_level = level_of_children();
  if (const Outcome<> enough = check_memory_for(config.capacity_bytes); !enough) {
    return complain("{} ({} distinct blocks of {})", enough.error().text, format_count(blocks),
                    format_size(options.block_bytes));
  }
  if (config.capacity_bytes >= kWorthAWord) {
    complain_aloud(options.command,
                   fmt::format("reserving {} of memory for {} blocks",
                               format_size(config.capacity_bytes), format_count(blocks)));
  }
  return LocalCluster::start(config, program.signals);
}

}  // namespace

Outcome<> check_options(const ReplayOptions& options) {
  if (options.block_bytes == 0 || options.block_bytes > Engine::kMaxBlockBytes) {
    return complain("--block-bytes must be 1 to {}", format_size(Engine::kMaxBlockBytes));
  }
  if (options.instances == 0 || options.instances > kMaxInstances) {
    return complain("--instances must be 1 to {}", kMaxInstances);
  }
  if (options.nodes == 0 || options.nodes > kMaxNodes) {
    return complain("--nodes must be 1 to {}", kMaxNodes);
  }
  if (options.capacity_bytes == 0) return complain("--capacity must be more than 0");
  if (options.timeout.count() == 0) return complain("--timeout must be more than 0");
  return {};
}

Outcome<> play(Program& program, const ReplayOptions& options,
               const std::vector<TraceRequest>& requests, const Dispatch::Observer& observer,
               Totals& totals) {
  Outcome<std::string> secret = program.common.secret(program.environment);
  if (!secret) return tl::unexpected(secret.error());
  std::unique_ptr<LocalCluster> cluster;
  if (options.server.empty()) {
    Outcome<std::unique_ptr<LocalCluster>> started = start_cluster(program, options, requests);
    if (!started) return tl::unexpected(started.error());
    cluster = std::move(*started);
  }
  DispatchConfig config;
  config.command = options.command;
  config.instances = options.instances;
  config.in_order = options.in_order;
  config.speed = options.speed;
  config.log_level = level_of_children();
  config.engine.server = cluster ? cluster->server() : options.server;
  config.engine.secret = cluster ? cluster->secret() : *secret;
  config.engine.space = options.space;
  config.engine.block_bytes = options.block_bytes;
  config.engine.timeout = options.timeout;
  config.engine.verify = options.verify;
  config.engine.one_sided_reads = options.one_sided_reads;
  Dispatch dispatch(requests, std::move(config), program.signals, cluster.get(), observer);
  if (const Outcome<> started = dispatch.start(); !started) return started;
  const Outcome<> played = dispatch.run();
  dispatch.finish();
  totals = dispatch.totals();
  return played;
}

void bind_replay_options(Command& command, ReplayOptions& options) {
  command.count("instances", options.instances, "Engine processes that share the requests")
      .count("nodes", options.nodes, "Node processes that are started")
      .size("block-bytes", options.block_bytes, "Size of a block's KV cache")
      .size("capacity", options.capacity_bytes, "Memory of the nodes that are started, together")
      .standard("enough for all blocks")
      .speed("speed", options.speed, "Times the trace's own speed, or as fast as possible")
      .duration("timeout", options.timeout, "The longest that one lookup, fetch or store may take")
      .toggle("one-sided-reads", options.one_sided_reads, "Read by RDMA alone where nodes allow it")
      .choice("verify", options.verify,
              "Let the reader hash what arrived; bytes are compared with what was stored anyway");
}

}  // namespace membrain
