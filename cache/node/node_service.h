// Node: an arena of blocks, served to clients on one loop and told to the shards on another.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "cache/node/arena.h"
#include "cache/node/arena_door.h"
#include "cache/node/block_service.h"
#include "cache/node/node_status.h"
#include "cache/node/shard_links.h"
#include "membrain/result.h"
#include "transport/fabric.h"
#include "transport/task.h"

namespace membrain {

struct NodeConfig {
  Address server = "127.0.0.1:9201";  ///< first contact with the servers
  std::string secret;                 ///< the cluster's shared secret
  std::string host;                   ///< id of this host: equal text = the same host
  std::string zone;                   ///< equal text = the same rack or availability zone
  Address listen = "127.0.0.1:0";     ///< where clients make first contact; port 0: any
  Address advertise;                  ///< the same as clients reach it; empty: as listened on
  BlockLimits limits;
  bool mapped = true;  ///< lets processes of this user on this host map the arena
  std::string door;    ///< somebody else hands it out under this name (the simulator); empty: we do
};

/// A node decides nothing and checks everything.
///
/// Ownership  Fabrics (and their loops) and the arena outlive it. After `stop` has ended, or when
///            neither loop will turn again and nothing is under way, it may be destroyed.
/// Threads    Two loops: `control` (the shards) and `data` (clients). Constructor and `start`:
///            before the loops run, or on the one thread that turns both. `stop`: on the control
///            loop, while both run. `status`: any thread. The rest: the data loop's thread.
/// Errors     `start`: what `Fabric::listen` says. Afterwards shards that are away only shows in
///            `status`: the node tries for ever.
class NodeService {
 public:
  /// `windows`: on the data loop; opens the arena to remote reads; null: not.
  NodeService(Fabric& control, Fabric& data, Arena& arena, NodeConfig config,
              Windows* windows = nullptr);
  NodeService(const NodeService&) = delete;
  NodeService& operator=(const NodeService&) = delete;

  /// Begins a new incarnation and listens; what an earlier life left is checked and adopted step
  /// by step, then the node registers.
  Result<> start();
  /// Has what this node alone has copied to others, as `status` shows, and takes nothing any more;
  /// goes on to serve. On the control loop.
  Task<> leave();
  /// Leaves the shards, lets transfers end (a second, then their connections are closed).
  Task<> stop();

  [[nodiscard]] NodeStatus status() const;
  /// Where clients make first contact, once started.
  [[nodiscard]] const Address& address() const noexcept { return address_; }

  /// For tests and the simulator: `corrupt` with what is wrong.
  [[nodiscard]] Result<> check_invariants() const;
  [[nodiscard]] const std::map<ShardId, Epoch>& epochs() const noexcept { return links_.epochs(); }
  void for_each_sealed(
      const std::function<void(const wire::SlotEntry&, std::span<const std::byte>)>& see) const;

 private:
  std::string open_door();

  Arena& arena_;
  NodeConfig config_;
  NodeCounters counters_;
  BlockService blocks_;
  ArenaDoor door_;
  ShardLinks links_;
  Address address_;
};

}  // namespace membrain
