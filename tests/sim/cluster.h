// A whole cluster in one thread: servers, nodes and clients over SimNetwork, with their real code.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cache/client/client_core.h"
#include "cache/node/arena.h"
#include "cache/node/node_service.h"
#include "server/cluster/leader_watch.h"
#include "server/cluster/membership.h"
#include "server/cluster/server_shards.h"
#include "server/cluster/sim_coordination.h"
#include "transport/sim_network.h"

namespace membrain::sim {

inline constexpr std::size_t kMostShards = 5;  ///< after all splits

/// How large a cluster is, and how it is treated.
struct Plan {
  std::uint64_t seed = 1;
  std::size_t servers = 1;
  std::size_t shards = 1;  ///< at first
  std::size_t nodes = 2;
  std::size_t clients = 3;
  std::size_t tenants = 1;  ///< clients are of the one and the other in turn
  std::uint64_t arena_bytes = 128 * 1024;
  std::uint8_t replicas = 1;
  bool zones = false;             ///< replicas are spread over two
  bool roomy = false;             ///< the arenas hold every replica
  std::uint32_t hot_lookups = 0;  ///< that make a block hot
  SimFaults faults;
  double kill_node = 0;  ///< probability per round of the schedule
  double kill_server = 0;
  double kill_client = 0;
  double leave = 0;  ///< that a node is told to leave, and may not get to its end
  double rot = 0;    ///< that a bit flips in the memory of a node that is down
  double partition = 0;
  double pause = 0;
  std::size_t nap_rounds = 0;  ///< that a pause lasts; 0: as long as luck has it
  double slow = 0;
  double cut_coordination = 0;   ///< that a server cannot reach it any more
  double no_quorum = 0;          ///< that nobody can
  double lost_coordination = 0;  ///< of its calls on the way there, and as many on the way back
  double end_lease = 0;          ///< that a living server's lease ends before its time
  Duration lease = std::chrono::milliseconds(600);  ///< of servers; less than sessions live
  double move_shard = 0;           ///< that somebody wants another server to lead a shard
  double split_shard = 0;          ///< that somebody wants one in two
  double rogue = 0;                ///< that somebody asks for what is not its own
  double clear = 0;                ///< probability that a client's turn clears the namespace
  bool windows = false;            ///< clients read nodes' arenas from afar
  bool verify = true;              ///< clients compare checksums
  std::size_t rounds = 16;         ///< of faults and work before the cluster is healed
  std::uint64_t least_events = 0;  ///< and more rounds until so much has happened
};

[[nodiscard]] std::string tenant_name(std::size_t tenant);

/// One life of the server's process. All of its shards share a loop here.
struct ServerLife final : ShardHost {
  ServerLife(ManualClock& clock, SimNetwork& network, SimCoordinator& coordinator,
             const std::string& name, const Plan& plan);
  /// Shards that it leads and nobody else can.
  template <class See>
  void for_each_led(See see) const;
  Result<Place> make_place(ShardId shard) override;
  Address open_place(ShardId shard, const Address& address) override;

  SimNetwork& net;
  std::string own_name;
  Loop loop;
  std::map<ShardId, std::unique_ptr<Fabric>> fabrics;
  std::unique_ptr<Fabric> watch_fabric;
  SimCoordination coordination;
  Membership membership;
  LeaderWatch watch;
  ServerShards shards;
  bool stopped = false;
};

template <class See>
void ServerLife::for_each_led(See see) const {
  const ShardMap& map = shards.map();
  for (std::size_t i = 0; i < map.count(); ++i) {
    const LedShard* const one = shards.find(map.shard(i));
    if (one != nullptr && one->leads(loop.clock().now())) see(*one);
  }
}

class Cluster;

/// One life of a node's process. The arena outlives it, and so do those who have mapped it.
struct NodeLife {
  NodeLife(ManualClock& clock, SimNetwork& network, std::shared_ptr<Arena> memory,
           const NodeConfig& config, bool open_windows);
  Loop control_loop;
  Loop data_loop;
  std::unique_ptr<Fabric> control;
  std::unique_ptr<Fabric> data;
  std::unique_ptr<Windows> windows;  ///< null without
  std::shared_ptr<Arena> arena;
  NodeService service;
  bool leaving = false;  ///< it was told to
  bool stopped = false;
};

/// One life of a client's process. Control and data share a loop here: the schedule decides which.
/// It maps the arena of the node of its host, if there is one.
struct ClientLife {
  ClientLife(Cluster& cluster, std::size_t index, std::size_t number, const std::string& host);
  std::string name;    ///< its process's, and which life of it
  std::size_t tenant;  ///< whose it is
  Loop loop;
  std::unique_ptr<Fabric> control;
  std::unique_ptr<Fabric> data;
  ClientCore core;
  bool started = false;
  bool busy = false;  ///< an engine drives it
  bool stopped = false;
};

/// The processes of one schedule. A killed process leaves the cluster at once; what remains of it
/// ends its coroutines in the graveyard, cut off from everything.
class Cluster {
 public:
  explicit Cluster(const Plan& plan);
  ~Cluster();

  [[nodiscard]] ManualClock& clock() noexcept { return clock_; }
  [[nodiscard]] SimNetwork& network() noexcept { return network_; }
  [[nodiscard]] SimRandom& random() noexcept { return network_.random(); }

  void start_server(std::size_t index);
  void kill_server(std::size_t index);
  [[nodiscard]] ServerLife* server(std::size_t index) noexcept { return servers_[index].get(); }
  [[nodiscard]] std::size_t server_count() const noexcept { return servers_.size(); }
  /// The shards of whoever leads one and knows, or believes, that nobody else can; none twice but
  /// for the deposed, if all is well.
  struct Led {
    ShardId id;
    const Shard* shard = nullptr;
    bool deposed = false;  ///< its lease was ended early: it cannot know yet that another leads
  };
  [[nodiscard]] std::vector<Led> leaders() const;
  /// The same, into memory that the caller keeps.
  void leaders(std::vector<Led>& into) const;
  /// As coordination has it; nothing before it was founded.
  [[nodiscard]] std::optional<ShardMap> map() const;
  /// Somebody wants that server to lead the shard, or the shard to be split.
  void wish_leader(ShardId shard, std::size_t server);
  void wish_split(ShardId shard);
  /// Every shard of the map is led.
  [[nodiscard]] bool all_led() const;
  /// For people: what coordination holds, and what each server believes.
  [[nodiscard]] std::string who_stands();
  /// Those whose time is over; only a quorum can end them.
  void let_leases_end() { coordinator_.pass_time(clock_.now()); }
  [[nodiscard]] SimCoordinator& coordinator() noexcept { return coordinator_; }
  /// Somebody revokes the lease of a server that lives, or etcd's clock runs fast: its terms are
  /// over, and it learns of it like any other news. False if it has no lease.
  bool end_lease(std::size_t server);
  /// Some namespace has been cleared since, and that leader cannot know it.
  [[nodiscard]] bool cleared_since(const Led& deposed) const;

  void start_node(std::size_t index);
  void kill_node(std::size_t index);
  /// It says that it is about to go; it lives on.
  void leave_node(std::size_t index);
  /// A bit of a block that a dead node left flips. False if it is alive, or left nothing.
  bool rot(std::size_t index);
  [[nodiscard]] NodeLife* node(std::size_t index) noexcept { return nodes_[index].get(); }
  [[nodiscard]] const Plan& plan() const noexcept { return plan_; }
  [[nodiscard]] std::size_t node_count() const noexcept { return nodes_.size(); }

  void start_client(std::size_t index);
  void kill_client(std::size_t index);
  /// Gives pins back, waits for what is under way, then is gone.
  void stop_client(std::size_t index);
  [[nodiscard]] std::shared_ptr<ClientLife> client(std::size_t index) noexcept {
    return clients_[index];
  }
  [[nodiscard]] std::size_t client_count() const noexcept { return clients_.size(); }

  /// The memory of a node in that life, as its door would hand it out; null if that is over.
  [[nodiscard]] std::shared_ptr<Arena> arena_of(NodeId node, Incarnation life) const;

  /// Every partition, pause and fault of the network ends; every process is started.
  void heal();
  /// Frees what of the dead has come to rest.
  void bury();
  /// Kills all, and turns what remains of it until it is at rest.
  void end();
  [[nodiscard]] std::size_t unburied() const noexcept { return graveyard_.size(); }

 private:
  struct Corpse {
    std::unique_ptr<NodeLife> node;
    std::shared_ptr<ClientLife> client;
    std::unique_ptr<ServerLife> server;
    [[nodiscard]] bool at_rest() const noexcept;
  };

  void hurry();
  void bury_node(std::size_t index);
  static Task<> end_server(ServerLife& life);
  static Task<> end_node(NodeLife& life);
  static Task<> end_client(ClientLife& life);

  ManualClock clock_;
  SimNetwork network_;
  Plan plan_;
  SimCoordinator coordinator_;
  std::set<Epoch> deposed_;  ///< terms whose leases were ended early
  std::vector<std::unique_ptr<ServerLife>> servers_;
  std::vector<std::unique_ptr<NodeLife>> nodes_;
  std::vector<std::shared_ptr<Arena>> arenas_;  ///< of nodes that are down
  std::vector<std::weak_ptr<Arena>> former_;    ///< of their lives before: some still map them
  std::vector<std::shared_ptr<ClientLife>> clients_;
  std::size_t client_lives_ = 0;
  std::deque<Corpse> graveyard_;
};

}  // namespace membrain::sim
