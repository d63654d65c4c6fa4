#include "bench/store_parties.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/log.h"
#include "bench/store_engine.h"
#include "cache/node/node_status.h"
#include "tools/cluster.h"
#include "tools/running_node.h"
#include "tools/running_server.h"
#include "tools/signals.h"

namespace membrain {

namespace {

constexpr std::size_t kRoundBytes = std::size_t{64} << 20;
constexpr std::size_t kMostCalls = 500;
constexpr std::size_t kFewestCalls = 4;

struct ClusterReport {
  bool ok = false;
  std::array<char, 64> server{};
};

/// Waits until `bytes` are free.
bool has_room(const RunningNode& node, std::uint64_t bytes) {
  for (int attempt = 0; attempt < 5000; ++attempt) {
    if (node.status().free_bytes >= bytes) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

/// The cluster's process: reports where it listens, then answers each order when there is room.
int serve_cluster(OrderWire& orders, std::uint64_t capacity_bytes, std::uint64_t room_bytes) {
  Signals signals;
  ClusterReport report;
  const Result<std::shared_ptr<UcxContext>> context = UcxContext::create();
  if (!context) return 1;
  ServerOptions server;
  server.listen = "127.0.0.1:0";
  server.no_admin = true;
  server.temporary = true;
  const auto running = RunningServer::start(server, *context);
  if (!running) return std::fprintf(stderr, "%s\n", running.error().text.c_str()), 1;
  NodeOptions node;
  node.server = (*running)->address();
  node.name = "store-bench";
  node.capacity_bytes = capacity_bytes;
  node.temporary = true;
  const auto holding = RunningNode::start(node, *context);
  if (!holding) return std::fprintf(stderr, "%s\n", holding.error().text.c_str()), 1;
  report.ok = (*holding)->wait_connected(SteadyClock().now() + std::chrono::seconds(20), signals);
  node.server.copy(report.server.data(), report.server.size() - 1);
  std::uint32_t order = 0;
  while (orders.send(report) && orders.receive(order)) {
    report.ok = has_room(**holding, room_bytes);
  }
  return 0;
}

}  // namespace

StoreParties::StoreParties(const StoreBenchConfig& config) : config_(config) {}

std::size_t StoreParties::bytes_per_call() const noexcept {
  return config_.batch * config_.block_bytes;
}

std::size_t StoreParties::calls_per_round() const noexcept {
  return std::clamp(kRoundBytes / bytes_per_call(), kFewestCalls, kMostCalls);
}

bool StoreParties::prepare() {
  ::setenv("UCX_TLS", "tcp,self", 1);
  // The working set, and two rounds of stores: the slots of one are freed while the next begins.
  const std::size_t engine_blocks = config_.batch * config_.clients;
  const std::size_t round_blocks = calls_per_round() * engine_blocks;
  const std::size_t kept_blocks = StoreEngine::sets(config_) * engine_blocks;
  const std::uint64_t room_bytes = capacity_for(round_blocks, config_.block_bytes);
  const std::uint64_t capacity_bytes =
      capacity_for(kept_blocks + 2 * round_blocks, config_.block_bytes);
  if (!check_memory_for(capacity_bytes)) return false;
  cluster_ = std::make_unique<Forked>([capacity_bytes, room_bytes](OrderWire& orders) {
    return serve_cluster(orders, capacity_bytes, room_bytes);
  });
  for (std::size_t i = 0; i < config_.clients; ++i) {
    engines_.push_back(std::make_unique<Forked>([config = config_, i](OrderWire& orders) {
      StoreEngine engine(config, i);
      return engine.serve(orders);
    }));
  }
  ClusterReport where;
  if (!cluster_->wire().receive(where) || !where.ok) return false;
  RoundOrder order;
  order.server = where.server;
  for (const auto& engine : engines_) {  // one after the other: memory is touched
    RoundReport report;
    if (!engine->wire().send(order) || !engine->wire().receive(report) || !report.ok) return false;
  }
  return true;
}

bool StoreParties::run(RoundOrder::What what, std::size_t count) {
  RoundOrder order;
  order.what = what;
  order.count = static_cast<std::uint32_t>(count);
  for (const auto& engine : engines_) {
    if (!engine->wire().send(order)) return false;
  }
  bool all = true;
  double p50_us = 0;
  double p99_us = 0;
  for (const auto& engine : engines_) {
    RoundReport report;
    all = engine->wire().receive(report) && report.ok && all;
    p50_us = std::max(p50_us, report.p50_us);
    p99_us = std::max(p99_us, report.p99_us);
  }
  if (what != RoundOrder::What::clear) {
    p50_us_ = p50_us;
    p99_us_ = p99_us;
  }
  return all;
}

bool StoreParties::wait_for_room() {
  const std::uint32_t order = 0;
  ClusterReport report;
  return cluster_->wire().send(order) && cluster_->wire().receive(report) && report.ok;
}

}  // namespace membrain
