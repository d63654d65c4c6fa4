// ServerShards: every shard of the cluster, as one server stands for it.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "membrain/result.h"
#include "protocol/shard_map.h"
#include "server/cluster/leader_watch.h"
#include "server/cluster/led_shard.h"
#include "server/cluster/membership.h"
#include "server/shard_roster.h"
#include "transport/fabric.h"

namespace membrain {

/// Where a server's shards live. Membership's loop.
class ShardHost {
 public:
  struct Place {
    Fabric* fabric = nullptr;  ///< of this shard alone; its loop does not run yet, or is the host's
    Address listen;
  };
  /// Called for each shard, again if it could not listen. The last fabric outlives the shards.
  virtual Result<Place> make_place(ShardId shard) = 0;
  /// The shard listens at `address`: its loop may run now. Where others reach it.
  virtual Address open_place(ShardId shard, const Address& address) = 0;

 protected:
  ~ShardHost() = default;
};

/// Stands for each shard of the map, and for those that come by splits. Shard 0 listens where
/// everybody looks for this server; any of them says who leads which.
///
/// Ownership  Borrows all that it is given.
/// Threads    The membership's loop.
class ServerShards {
 public:
  /// `shards`: into how many the first server of a cluster divides the keys.
  ServerShards(Membership& membership, LeaderWatch* watch, ShardHost& host, ShardConfig config,
               std::size_t shards);
  ~ServerShards();
  ServerShards(const ServerShards&) = delete;
  ServerShards& operator=(const ServerShards&) = delete;

  /// The first shard takes first contacts from now on. Before the loops run.
  Result<> listen();
  /// Finds or founds the map, however long that takes, and stands for every shard from then on.
  /// After the membership has started.
  void start();
  /// Leads nothing from now on, and when this ends none of its services serves. The lease is to be
  /// given back next: others lead while connections are closed here.
  Task<> resign();
  /// After that, which may be now: ends when every connection is closed.
  Task<> stop();

  /// It is known who leads each shard.
  [[nodiscard]] bool settled() const noexcept;
  /// Where the first shard listens.
  [[nodiscard]] const Address& front() const noexcept { return front_; }
  [[nodiscard]] const ShardMap& map() const noexcept { return map_; }
  /// By their numbers.
  [[nodiscard]] std::vector<const LedShard*> shards() const;
  [[nodiscard]] const LedShard* find(ShardId shard) const noexcept;

 private:
  Result<> stand_for(ShardId shard);
  Result<> adopt(const ShardMap& map);
  Task<> follow_map();
  Task<Result<Revision>> read_map();
  Task<Result<>> found_map();
  void watch_map(Revision after, TimePoint until);
  /// Runs `task` for each at once; ends when all have.
  template <class Make>
  Task<> for_each_stand(Make make);

  struct Stand {
    std::unique_ptr<LedShard> shard;
    Address address;
    bool started = false;
  };

  Membership& membership_;
  LeaderWatch* watch_;
  ShardHost& host_;
  const ShardConfig config_;
  const std::size_t wanted_shards_;
  const std::shared_ptr<ShardRoster> roster_;
  ShardMap map_;
  Address front_;
  std::map<ShardId, Stand> stands_;
  Signal ended_;
  Signal wake_;
  bool map_known_ = false;
  bool following_ = false;
  bool watching_ = false;
  bool stopping_ = false;
};

}  // namespace membrain
