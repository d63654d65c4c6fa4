#include "bench/mapped_host.h"

#include <chrono>
#include <utility>

#include "base/clock.h"
#include "tools/signals.h"

namespace membrain {

namespace {
constexpr const char* kSecret = "bench";
}

MappedHost::MappedHost(bool verify) {
  const std::shared_ptr<UcxContext> context = UcxContext::create().value();
  ServerOptions server;
  server.listen = "127.0.0.1:0";
  server.no_admin = true;
  server.secret = kSecret;
  server.temporary = true;
  server_ = std::move(*RunningServer::start(server, context));
  NodeOptions node;
  node.server = server_->address();
  node.secret = kSecret;
  node.name = "bench";
  node.capacity_bytes = kCapacityBytes;
  node.temporary = true;
  node_ = std::move(*RunningNode::start(node, context));
  Signals signals;
  if (!node_->wait_connected(SteadyClock().now() + std::chrono::seconds(20), signals)) return;
  ClientConfig config;
  config.server = server_->address();
  config.secret = kSecret;
  config.verify_checksums = verify;
  client_ = std::move(Client::open(config).value());
}

OpenedNamespace MappedHost::open_space() const {
  Namespace space;
  space.model = "bench";
  return client_->open_namespace(space).value();
}

bool all_mapped(const Result<TransferReport>& report, std::size_t items, std::uint64_t bytes) {
  return report && report->ok_count() == items && report->bytes == bytes &&
         report->lane_bytes.contains("mapped") && report->lane_bytes.at("mapped") == bytes;
}

}  // namespace membrain
