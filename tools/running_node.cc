#include "tools/running_node.h"

#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "tools/program.h"
#include "tools/units.h"
#include "transport/host_id.h"
#include "transport/ucx/ucx_fabric.h"
#include "transport/ucx/ucx_windows.h"

namespace membrain {
namespace {

constexpr int kLookEveryMs = 20;

/// A temporary arena has a name that no lasting one has.
std::string arena_name(const NodeOptions& options) {
  return options.temporary ? fmt::format("{}-{}", options.name, ::getpid()) : options.name;
}

Outcome<std::unique_ptr<Arena>> open_arena(const NodeOptions& options) {
  ArenaConfig config;
  config.name = arena_name(options);
  config.capacity_bytes = options.capacity_bytes;
  config.fresh = options.fresh || options.temporary;
  config.directory = options.directory;
  Result<std::unique_ptr<Arena>> arena = Arena::open(config);
  if (!arena) {
    return complain("no arena of {} in {}: {}", format_size(options.capacity_bytes),
                    options.directory, in_words(arena.error()));
  }
  if (options.temporary) {
    std::error_code ignored;
    std::filesystem::remove(std::filesystem::path(options.directory) / ("membrain-" + config.name),
                            ignored);
  }
  return std::move(*arena);
}

}  // namespace

RunningNode::RunningNode() : control_("node control"), data_("node data") {}

Outcome<std::unique_ptr<RunningNode>> RunningNode::start(const NodeOptions& options,
                                                         std::shared_ptr<UcxContext> context) {
  std::unique_ptr<RunningNode> node(new RunningNode);
  Outcome<std::unique_ptr<Arena>> arena = open_arena(options);
  if (!arena) return tl::unexpected(arena.error());
  node->arena_ = std::move(*arena);
  Result<std::unique_ptr<Fabric>> control =
      make_ucx_fabric(context, node->control_.loop(), {options.secret, "node control"});
  Result<std::unique_ptr<Fabric>> data =
      make_ucx_fabric(context, node->data_.loop(), {options.secret, "node data"});
  if (!control || !data) {
    return complain("UCX cannot be used: {}", in_words(control ? data.error() : control.error()));
  }
  node->control_fabric_ = std::move(*control);
  node->data_fabric_ = std::move(*data);
  NodeConfig config;
  config.server = options.server;
  config.secret = options.secret;
  config.host = host_id();
  config.zone = options.zone.substr(0, wire::kMaxTextBytes);
  config.listen = options.listen;
  if (options.one_sided_reads) node->open_windows();
  node->service_ =
      std::make_unique<NodeService>(*node->control_fabric_, *node->data_fabric_, *node->arena_,
                                    std::move(config), node->windows_.get());
  if (const Result<> started = node->service_->start(); !started) {
    return complain("cannot listen on {}: {}; take another --listen (port 0: any)", options.listen,
                    in_words(started.error()));
  }
  node->control_.start();
  node->data_.start();
  node->running_ = true;
  return node;
}

void RunningNode::open_windows() {
  UcxContextConfig ucx;
  ucx.loopback_only = false;  // nothing but RDMA devices is used
  Result<std::unique_ptr<Windows>> made = make_ucx_windows(data_.loop(), ucx);
  if (made) {
    windows_ = std::move(*made);
  } else {
    log(LogLevel::warn, "node: --one-sided-reads: no RDMA device that can be used: {}",
        in_words(made.error()));
  }
}

RunningNode::~RunningNode() {
  if (!running_) return;
  control_.run(service_->stop());
  control_.stop();
  data_.stop();
}

bool RunningNode::wait_connected(TimePoint deadline, Signals& signals) const {
  while (!status().connected) {
    if (signals.stop_asked() || SteadyClock().now() >= deadline) return false;
    pollfd fd{signals.fd(), POLLIN, 0};
    static_cast<void>(::poll(&fd, 1, kLookEveryMs));
  }
  return true;
}

}  // namespace membrain
