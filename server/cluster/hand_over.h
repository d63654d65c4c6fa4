// Hand-overs: how a shard's leader makes way for another, or for two. Pure.
#pragma once

#include <optional>
#include <string>

#include "base/ids.h"
#include "membrain/result.h"
#include "protocol/shard_map.h"
#include "server/cluster/coordination.h"
#include "server/cluster/names.h"

namespace membrain {

/// What somebody has asked of a shard's leader.
struct ShardWishes {
  std::string leader;  ///< by name, who is to lead; empty: no matter
  std::string ready;   ///< by name, who lives and waits to lead as it is wanted
  Revision ready_since = 0;
  std::optional<ShardId> split;  ///< who is to get half of the keys

  /// Another than `self` is to lead, and can.
  [[nodiscard]] bool another(const std::string& self) const noexcept {
    return !leader.empty() && leader != self && ready == leader;
  }

  [[nodiscard]] static ShardWishes of(const CoordinationView& view, const ClusterNames& names,
                                      ShardId shard);
};

/// The end of a term: nobody leads then. Fails if another term has begun.
[[nodiscard]] CoordinationChange resignation(const ClusterNames& names, ShardId shard, Epoch epoch);

/// The same, and in one with it the next map, in which `fresh` has half of the shard's keys. What
/// was cleared in the shard is cleared in `fresh`, and whoever leads `fresh` first frees nothing
/// before sessions had time to come: they may hold pins there. `shard` and `map` are what
/// coordination has under the shard's names and the map's. A wish that cannot be fulfilled is
/// dropped with the reason; the term goes on.
[[nodiscard]] Result<CoordinationChange> splitting(const ClusterNames& names, ShardId shard,
                                                   Epoch epoch, ShardId fresh,
                                                   const CoordinationView& view,
                                                   const CoordinationEntry& map);
/// Forgets a wish.
[[nodiscard]] CoordinationChange dropping_split(const ClusterNames& names, ShardId shard,
                                                Epoch epoch);

}  // namespace membrain
