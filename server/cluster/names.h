// Where things stand in Coordination: docs/protocol.md lists the keys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"

namespace membrain {

/// The keys of one cluster: "membrain/<cluster>/...".
class ClusterNames {
 public:
  explicit ClusterNames(std::string_view cluster);

  [[nodiscard]] const std::string& root() const noexcept { return root_; }
  /// The cluster's id, drawn once.
  [[nodiscard]] std::string id() const { return root_ + "id"; }
  /// Which shard has which keys: ShardMap's text.
  [[nodiscard]] std::string map() const { return root_ + "map"; }
  /// Each living server's address, under its lease.
  [[nodiscard]] std::string servers() const { return root_ + "servers/"; }
  [[nodiscard]] std::string server(std::string_view name) const;

  /// All that concerns a shard begins so.
  [[nodiscard]] std::string shard(ShardId shard) const;
  /// Its leader's address, under the leader's lease. Its create revision is the epoch.
  [[nodiscard]] std::string leader(ShardId shard) const;
  /// There since the shard's first term.
  [[nodiscard]] std::string founded(ShardId shard) const;
  /// By name, the server that is to lead it; none: whoever comes first.
  [[nodiscard]] std::string wanted(ShardId shard) const;
  /// The same server, once it is ready, under its lease.
  [[nodiscard]] std::string ready(ShardId shard) const;
  /// The number of the shard that is to get half of this one's keys.
  [[nodiscard]] std::string split(ShardId shard) const;
  /// The era of each namespace that was cleared.
  [[nodiscard]] std::string eras(ShardId shard) const;
  [[nodiscard]] std::string era(ShardId shard, NamespaceId space) const;
  /// What `era` named.
  [[nodiscard]] std::optional<NamespaceId> space_of(ShardId shard, std::string_view key) const;

 private:
  std::string root_;
};

}  // namespace membrain
