#include "tests/sim/cluster.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"

namespace membrain::sim {

namespace {

constexpr const char* kServer = "server";

std::string node_name(std::size_t index) {
  return fmt::format("node{}", index);
}
std::string client_name(std::size_t index) {
  return fmt::format("client{}", index);
}

ShardConfig shard_config() {
  ShardConfig config;
  config.session_ttl = std::chrono::milliseconds(1500);
  config.node_ttl = std::chrono::milliseconds(900);
  config.expected_blocks = 64;
  return config;
}

NodeConfig node_config(const std::string& name) {
  NodeConfig config;
  config.server = kServer;
  config.host = name;
  config.listen = name + ":data";
  return config;
}

ClientConfig client_config() {
  ClientConfig config;
  config.server = kServer;
  config.connect_timeout = std::chrono::milliseconds(3000);
  config.probe_store_bytes = 32 * 1024;  // the longer ones ask first
  return config;
}

}  // namespace

ServerLife::ServerLife(ManualClock& clock, SimNetwork& network, StateStore& state,
                       const std::string& name)
    : loop(clock),
      fabric(network.make_fabric(loop, name)),
      service(*fabric, shard_config(), state) {
  const Result<> started = service.start(kServer);
  check(started.has_value(), "the simulated server could not start");
}

NodeLife::NodeLife(ManualClock& clock, SimNetwork& network, std::unique_ptr<Arena> memory,
                   const std::string& name)
    : control_loop(clock),
      data_loop(clock),
      control(network.make_fabric(control_loop, name)),
      data(network.make_fabric(data_loop, name)),
      arena(std::move(memory)),
      service(*control, *data, *arena, node_config(name)) {
  const Result<> started = service.start();
  check(started.has_value(), "a simulated node could not start");
}

ClientLife::ClientLife(ManualClock& clock, SimNetwork& network, const std::string& name)
    : loop(clock),
      control(network.make_fabric(loop, name)),
      data(network.make_fabric(loop, name)),
      core(*control, *data, client_config(), name) {}

Cluster::Cluster(const Plan& plan) : network_(clock_, plan.seed, plan.faults), plan_(plan) {
  nodes_.resize(plan.nodes);
  clients_.resize(plan.clients);
  for (std::size_t i = 0; i < plan.nodes; ++i) {
    arenas_.push_back(
        Arena::anonymous(plan.arena_bytes, NodeId{static_cast<std::uint32_t>(i + 1)}).value());
  }
  start_server();
  for (std::size_t i = 0; i < plan.nodes; ++i) start_node(i);
  for (std::size_t i = 0; i < plan.clients; ++i) start_client(i);
}

Cluster::~Cluster() {
  for (std::size_t i = 0; i < clients_.size(); ++i) kill_client(i);
  for (std::size_t i = 0; i < nodes_.size(); ++i) kill_node(i);
  kill_server();
  for (int turns = 0; turns < 1000000 && !graveyard_.empty(); ++turns) {
    network_.step();
    bury();
  }
  check(graveyard_.empty(), "a dead process never came to rest");
}

void Cluster::start_server() {
  if (server_) return;
  server_ = std::make_unique<ServerLife>(clock_, network_, state_, kServer);
}

void Cluster::kill_server() {
  if (!server_) return;
  network_.kill(kServer);
  Corpse corpse;
  corpse.server = std::move(server_);
  corpse.server->loop.spawn(end_server(*corpse.server));
  graveyard_.push_back(std::move(corpse));
}

void Cluster::start_node(std::size_t index) {
  if (nodes_[index]) return;
  nodes_[index] =
      std::make_unique<NodeLife>(clock_, network_, std::move(arenas_[index]), node_name(index));
}

void Cluster::kill_node(std::size_t index) {
  if (!nodes_[index]) return;
  network_.kill(node_name(index));
  // The memory as it was when the process died; what the corpse still writes is its own affair.
  arenas_[index] = nodes_[index]->arena->copy();
  Corpse corpse;
  corpse.node = std::move(nodes_[index]);
  corpse.node->control_loop.spawn(end_node(*corpse.node));
  graveyard_.push_back(std::move(corpse));
}

void Cluster::start_client(std::size_t index) {
  if (clients_[index]) return;
  clients_[index] = std::make_shared<ClientLife>(clock_, network_, client_name(index));
}

void Cluster::kill_client(std::size_t index) {
  if (!clients_[index]) return;
  network_.kill(client_name(index));
  stop_client(index);
}

void Cluster::stop_client(std::size_t index) {
  if (!clients_[index]) return;
  Corpse corpse;
  corpse.client = std::move(clients_[index]);
  corpse.client->loop.spawn(end_client(*corpse.client));
  graveyard_.push_back(std::move(corpse));
}

Task<> Cluster::end_server(ServerLife& life) {
  Task<> stopping = life.service.stop();
  co_await stopping;
  life.stopped = true;
}

Task<> Cluster::end_node(NodeLife& life) {
  Task<> stopping = life.service.stop();
  co_await stopping;
  life.stopped = true;
}

/// A client's engine ends first: it holds the operations.
Task<> Cluster::end_client(ClientLife& life) {
  while (life.busy) {
    const TimePoint soon = life.loop.now() + std::chrono::milliseconds(5);
    co_await life.loop.sleep_until(soon);
  }
  if (life.started) {
    Task<> stopping = life.core.stop();
    co_await stopping;
  }
  life.stopped = true;
}

bool Cluster::Corpse::at_rest() const noexcept {
  if (server) return server->stopped && server->loop.running_tasks() == 0;
  if (node) {
    return node->stopped && node->control_loop.running_tasks() == 0 &&
           node->data_loop.running_tasks() == 0;
  }
  return client->stopped && client->loop.running_tasks() == 0;
}

void Cluster::bury() {
  std::erase_if(graveyard_, [](const Corpse& corpse) { return corpse.at_rest(); });
}

void Cluster::heal() {
  network_.heal_partitions();
  network_.set_faults({});
  network_.resume(kServer);
  for (std::size_t i = 0; i < nodes_.size(); ++i) network_.resume(node_name(i));
  for (std::size_t i = 0; i < clients_.size(); ++i) network_.resume(client_name(i));
  start_server();
  for (std::size_t i = 0; i < nodes_.size(); ++i) start_node(i);
  for (std::size_t i = 0; i < clients_.size(); ++i) start_client(i);
}

}  // namespace membrain::sim
