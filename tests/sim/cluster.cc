#include "tests/sim/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"

namespace membrain::sim {

namespace {

constexpr Duration kLateNews = std::chrono::milliseconds(300);  ///< half a lease

std::string server_name(std::size_t index) {
  return fmt::format("server{}", index);
}
std::string node_name(std::size_t index) {
  return fmt::format("node{}", index);
}
std::string client_name(std::size_t index) {
  return fmt::format("client{}", index);
}

ShardConfig shard_config(const Plan& plan, SimRandom& random) {
  ShardConfig config;
  config.random = [&random] { return random.next(); };
  config.replicas.replicas = plan.replicas;
  if (plan.zones) config.replicas.zones = wire::ZoneRule::spread;
  config.copies.hot_lookups = plan.hot_lookups;
  config.session_ttl = std::chrono::milliseconds(1500);
  config.node_ttl = std::chrono::milliseconds(900);
  config.expected_blocks = 64;
  return config;
}

std::string all_servers(const Plan& plan) {
  std::string text = server_name(0);
  for (std::size_t i = 1; i < plan.servers; ++i) text += "," + server_name(i);
  return text;
}

MemberConfig member_config(const Plan& plan, const std::string& name, std::uint64_t seed) {
  MemberConfig config;
  config.lease = plan.lease;
  config.seed = seed;
  config.name = name;
  return config;
}

NodeConfig node_config(const Plan& plan, std::size_t index) {
  const std::string name = node_name(index);
  NodeConfig config;
  config.zone = index % 2 == 0 ? "even" : "odd";
  config.server = all_servers(plan);
  config.host = name;
  config.listen = name + ":data";
  config.door = name;
  return config;
}

ClientConfig client_config(const Plan& plan, const std::string& label, std::size_t tenant) {
  ClientConfig config;
  config.label = label;
  config.tenant = tenant_name(tenant);
  config.verify_checksums = plan.verify;
  config.server = all_servers(plan);
  config.connect_timeout = std::chrono::milliseconds(3000);
  config.probe_store_bytes = 32 * 1024;  // the longer ones ask first
  return config;
}

/// Gets arenas from the cluster, some time later.
class NeighbourArenas final : public ArenaOpener {
 public:
  NeighbourArenas(Cluster& cluster, Loop& loop) noexcept : cluster_(cluster), loop_(loop) {}

  Task<Result<std::shared_ptr<const MappedArena>>> open(wire::NodeEntry node, TimePoint) override {
    const TimePoint answered = loop_.now() + std::chrono::milliseconds(cluster_.random().below(4));
    co_await loop_.sleep_until(answered);
    const std::shared_ptr<Arena> arena = cluster_.arena_of(node.node, node.incarnation);
    if (!arena) co_return fail(Errc::unavailable, "that life of the node is over");
    co_return MappedArena::over(arena->mapping(), arena, node.node, node.incarnation);
  }

 private:
  Cluster& cluster_;
  Loop& loop_;
};

/// What whoever mapped a life of a node sees once the next one serves from the same memory: another
/// incarnation, and, at the worst, nothing in its old place.
void reuse(Arena& former, Incarnation next) {
  auto* const memory = const_cast<std::byte*>(former.mapping().data());
  auto* const header = reinterpret_cast<ArenaHeader*>(memory);
  header->incarnation.store(next.value);
  std::memset(memory + header->slots_offset, 0xee, header->capacity_bytes);
}

}  // namespace

ServerLife::ServerLife(ManualClock& clock, SimNetwork& network, SimCoordinator& coordinator,
                       const std::string& name, const Plan& plan)
    : net(network),
      own_name(name),
      loop(clock),
      watch_fabric(network.make_fabric(loop, name)),
      coordination(loop, coordinator),
      membership(loop, coordination, member_config(plan, name, network.random().next())),
      watch(watch_fabric.get(), membership),
      shards(membership, &watch, *this, shard_config(plan, network.random()), plan.shards) {
  const Result<> listens = shards.listen();
  check(listens.has_value(), "a simulated server could not start");
  membership.start(name);
  shards.start();
}

Result<ShardHost::Place> ServerLife::make_place(ShardId shard) {
  std::unique_ptr<Fabric>& fabric = fabrics[shard];
  fabric = net.make_fabric(loop, own_name);
  return Place{fabric.get(), shard ? fmt::format("{}:{}", own_name, shard.value) : own_name};
}

Address ServerLife::open_place(ShardId, const Address& address) {
  return address;
}

NodeLife::NodeLife(ManualClock& clock, SimNetwork& network, std::shared_ptr<Arena> memory,
                   const NodeConfig& config, bool open_windows)
    : control_loop(clock),
      data_loop(clock),
      control(network.make_fabric(control_loop, config.host)),
      data(network.make_fabric(data_loop, config.host)),
      windows(open_windows ? network.make_windows(data_loop, config.host) : nullptr),
      arena(std::move(memory)),
      service(*control, *data, *arena, config, windows.get()) {
  const Result<> started = service.start();
  check(started.has_value(), "a simulated node could not start");
}

std::string tenant_name(std::size_t tenant) {
  return fmt::format("tenant {}", tenant);
}

ClientLife::ClientLife(Cluster& cluster, std::size_t index, std::size_t number,
                       const std::string& host)
    : name(fmt::format("{}, life {}", client_name(index), number)),
      tenant(index % cluster.plan().tenants),
      loop(cluster.clock()),
      control(cluster.network().make_fabric(loop, client_name(index))),
      data(cluster.network().make_fabric(loop, client_name(index))),
      core(*control, *data, client_config(cluster.plan(), name, tenant), host,
           std::make_unique<NeighbourArenas>(cluster, loop), {},
           cluster.plan().windows ? cluster.network().make_windows(loop, client_name(index))
                                  : nullptr) {}

Cluster::Cluster(const Plan& plan)
    : network_(clock_, plan.seed, plan.faults), plan_(plan), coordinator_(network_.random()) {
  coordinator_.lost_ask = coordinator_.lost_answer = plan.lost_coordination;
  if (plan.end_lease > 0) coordinator_.late_news = kLateNews;
  servers_.resize(plan.servers);
  nodes_.resize(plan.nodes);
  former_.resize(plan.nodes);
  clients_.resize(plan.clients);
  for (std::size_t i = 0; i < plan.nodes; ++i) {
    arenas_.push_back(
        Arena::anonymous(plan.arena_bytes, NodeId{static_cast<std::uint32_t>(i + 1)}).value());
  }
  for (std::size_t i = 0; i < plan.servers; ++i) start_server(i);
  for (std::size_t i = 0; i < plan.nodes; ++i) start_node(i);
  for (std::size_t i = 0; i < plan.clients; ++i) start_client(i);
}

Cluster::~Cluster() {
  end();
}

void Cluster::end() {
  for (std::size_t i = 0; i < clients_.size(); ++i) kill_client(i);
  for (std::size_t i = 0; i < nodes_.size(); ++i) bury_node(i);
  for (std::size_t i = 0; i < servers_.size(); ++i) kill_server(i);
  for (int turns = 0; turns < 1000000 && !graveyard_.empty(); ++turns) {
    network_.step();
    bury();
  }
  check(graveyard_.empty(), "a dead process never came to rest");
}

void Cluster::start_server(std::size_t index) {
  if (servers_[index]) return;
  servers_[index] =
      std::make_unique<ServerLife>(clock_, network_, coordinator_, server_name(index), plan_);
}

void Cluster::kill_server(std::size_t index) {
  if (!servers_[index]) return;
  network_.kill(server_name(index));
  Corpse corpse;
  corpse.server = std::move(servers_[index]);
  corpse.server->coordination.cut_off(true);
  corpse.server->loop.spawn(end_server(*corpse.server));
  graveyard_.push_back(std::move(corpse));
}

std::vector<Cluster::Led> Cluster::leaders() const {
  std::vector<Led> led;
  leaders(led);
  return led;
}

void Cluster::leaders(std::vector<Led>& into) const {
  into.clear();
  for (const std::unique_ptr<ServerLife>& server : servers_) {
    if (!server) continue;
    server->for_each_led([this, &into](const LedShard& one) {
      const Shard& shard = one.service().shard();
      into.push_back({one.shard(), &shard, deposed_.contains(shard.epoch())});
    });
  }
}

std::optional<ShardMap> Cluster::map() const {
  const CoordinationView view = coordinator_.state.read(ClusterNames("membrain").map());
  if (view.entries.empty()) return std::nullopt;
  return ShardMap::parse(view.entries.front().value).value();
}

bool Cluster::all_led() const {
  const std::optional<ShardMap> known = map();
  const std::vector<Led> led = leaders();
  return known && led.size() == known->count() &&
         std::ranges::none_of(led, [](const Led& one) { return one.deposed; });
}

bool Cluster::end_lease(std::size_t server) {
  const ClusterNames names("membrain");
  const CoordinationView view = coordinator_.state.read(names.root());
  const CoordinationEntry* const member = view.find(names.server(server_name(server)));
  if (member == nullptr || !member->lease) return false;
  for (const CoordinationEntry& entry : view.entries) {
    if (entry.lease == member->lease) deposed_.insert(Epoch{entry.created});
  }
  coordinator_.state.revoke(member->lease);
  return true;
}

void Cluster::wish_leader(ShardId shard, std::size_t server) {
  CoordinationChange change;
  change.puts.push_back({ClusterNames("membrain").wanted(shard), server_name(server), LeaseId{}});
  check(coordinator_.state.commit(change).has_value(), "a wish was not written");
}

void Cluster::wish_split(ShardId shard) {
  const std::string fresh = std::to_string(map()->count());  // taken, if another split comes first
  CoordinationChange change;
  change.puts.push_back({ClusterNames("membrain").split(shard), fresh, LeaseId{}});
  check(coordinator_.state.commit(change).has_value(), "a wish was not written");
}

bool Cluster::cleared_since(const Led& deposed) const {
  const ClusterNames names("membrain");
  const Namespaces& known = deposed.shard->namespaces();
  for (const CoordinationEntry& entry : coordinator_.state.read(names.root()).entries) {
    for (std::uint32_t shard = 0; shard < kMostShards; ++shard) {
      const std::optional<NamespaceId> space = names.space_of(ShardId{shard}, entry.key);
      const SpaceIndex index = space ? known.find(*space) : kNoSpace;
      if (index == kNoSpace) continue;
      if (std::stoul(entry.value) > known[index].era.value) return true;
    }
  }
  return false;
}

std::string Cluster::who_stands() {
  std::string text;
  for (const CoordinationEntry& entry : coordinator_.state.read("").entries) {
    text += fmt::format("\n  {} = {} under lease {}", entry.key, entry.value, entry.lease.value);
  }
  for (const std::unique_ptr<ServerLife>& server : servers_) {
    if (!server) continue;
    text += fmt::format("\n  {}: lease {}, {}", server->membership.config().name,
                        server->membership.lease().value,
                        server->membership.valid(clock_.now()) ? "valid" : "over");
  }
  return text;
}

void Cluster::start_node(std::size_t index) {
  if (nodes_[index]) return;
  nodes_[index] = std::make_unique<NodeLife>(clock_, network_, std::move(arenas_[index]),
                                             node_config(plan_, index), plan_.windows);
  if (const std::shared_ptr<Arena> former = former_[index].lock()) {
    reuse(*former, nodes_[index]->arena->incarnation());
  }
}

void Cluster::kill_node(std::size_t index) {
  if (!nodes_[index]) return;
  // The memory as it was when the process died; what the corpse still writes is its own affair.
  arenas_[index] = nodes_[index]->arena->copy();
  former_[index] = nodes_[index]->arena;
  bury_node(index);
}

void Cluster::leave_node(std::size_t index) {
  NodeLife* const node = nodes_[index].get();
  if (node == nullptr || std::exchange(node->leaving, true)) return;
  node->control_loop.spawn(node->service.leave());
}

bool Cluster::rot(std::size_t index) {
  if (!arenas_[index]) return false;
  const std::span<const Seal> seals = arenas_[index]->seals();
  const std::size_t first = random().below(seals.size());
  for (std::size_t i = 0; i < seals.size(); ++i) {
    const std::size_t slot = (first + i) % seals.size();
    if (seals[slot].state.load() != Seal::sealed) continue;
    arenas_[index]->memory(SlotId{static_cast<std::uint32_t>(slot)}, 1)[0] ^= std::byte{1};
    return true;
  }
  return false;
}

void Cluster::bury_node(std::size_t index) {
  if (!nodes_[index]) return;
  network_.kill(node_name(index));
  Corpse corpse;
  corpse.node = std::move(nodes_[index]);
  corpse.node->control_loop.spawn(end_node(*corpse.node));
  graveyard_.push_back(std::move(corpse));
}

void Cluster::start_client(std::size_t index) {
  if (clients_[index]) return;
  // Some share their host with a node, some with none.
  const std::string host = node_name(index % (nodes_.size() + 1));
  clients_[index] = std::make_shared<ClientLife>(*this, index, ++client_lives_, host);
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
  Task<> shards = life.shards.stop();
  co_await shards;
  Task<> watch = life.watch.stop();
  co_await watch;
  Task<> member = life.membership.stop();
  co_await member;
  Task<> rest = life.coordination.stop();
  co_await rest;
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

std::shared_ptr<Arena> Cluster::arena_of(NodeId node, Incarnation life) const {
  for (const std::unique_ptr<NodeLife>& one : nodes_) {
    if (one && one->arena->node() == node && one->arena->incarnation() == life) return one->arena;
  }
  return nullptr;
}

/// Nobody is slow any more.
void Cluster::hurry() {
  for (std::size_t i = 0; i < servers_.size(); ++i) network_.slow_down(server_name(i), {});
  for (std::size_t i = 0; i < nodes_.size(); ++i) network_.slow_down(node_name(i), {});
  for (std::size_t i = 0; i < clients_.size(); ++i) network_.slow_down(client_name(i), {});
}

void Cluster::heal() {
  network_.heal_partitions();
  network_.set_faults({});
  coordinator_.quorum = true;
  coordinator_.lost_ask = coordinator_.lost_answer = 0;
  coordinator_.late_news = {};
  for (std::size_t i = 0; i < servers_.size(); ++i) {
    network_.resume(server_name(i));
    if (servers_[i]) servers_[i]->coordination.cut_off(false);
  }
  for (std::size_t i = 0; i < nodes_.size(); ++i) network_.resume(node_name(i));
  for (std::size_t i = 0; i < clients_.size(); ++i) network_.resume(client_name(i));
  if (plan_.slow > 0) hurry();
  for (std::size_t i = 0; i < servers_.size(); ++i) start_server(i);
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i] && nodes_[i]->leaving) kill_node(i);
    start_node(i);
  }
  for (std::size_t i = 0; i < clients_.size(); ++i) start_client(i);
}

}  // namespace membrain::sim
