// Steering: what people see of a cluster's shards, and what they can wish of them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "membrain/result.h"
#include "protocol/shard_map.h"
#include "server/cluster/coordination.h"
#include "server/cluster/names.h"
#include "transport/task.h"

namespace membrain {

struct SteeredShard {
  ShardId shard;
  KeyRange range;
  Epoch epoch;         ///< zero: nobody leads
  std::string leader;  ///< by name; empty: nobody, or one that is about to go
  std::string wanted;  ///< by name; empty: no matter who leads
};

/// What coordination holds of a cluster at one moment.
struct SteeredCluster {
  ShardMap map;
  std::map<std::string, std::string> servers;  ///< alive: address by name
  std::vector<SteeredShard> shards;            ///< in the map's order

  [[nodiscard]] const SteeredShard* find(ShardId shard) const noexcept;
};

/// From everything under the cluster's names. `not_found`: there is no such cluster.
[[nodiscard]] Result<SteeredCluster> steered(const CoordinationView& view,
                                             const ClusterNames& names);

/// Who is to lead which shard, by name: the same number each, give or take one, and as few moves as
/// that takes. Nobody on `without`. `unavailable` if nobody else lives.
[[nodiscard]] Result<std::map<ShardId, std::string>> spread(const SteeredCluster& cluster,
                                                            const std::string& without);

/// Wishes that `by_shard` comes true.
[[nodiscard]] CoordinationChange wishing(const ClusterNames& names,
                                         const std::map<ShardId, std::string>& by_shard);
/// Wishes that a shard is split; `fresh` is the number that its upper half gets.
struct WishedSplit {
  ShardId fresh;
  CoordinationChange change;
};
[[nodiscard]] Result<WishedSplit> wishing_split(const SteeredCluster& cluster,
                                                const ClusterNames& names, ShardId shard);

}  // namespace membrain
