// ShardRoster: which shards there are and who leads them, as far as this server knows.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "base/ids.h"
#include "protocol/shard_map.h"
#include "protocol/shard_messages.h"
#include "transport/fabric.h"

namespace membrain {

/// What every shard's service of this server answers when it is asked for the shards.
///
/// Threads  Any.
class ShardRoster {
 public:
  void set_map(const ShardMap& map);
  /// Empty: nobody, or not known.
  void set_leader(ShardId shard, const Address& leader);
  /// Null before there is a map.
  [[nodiscard]] std::shared_ptr<const wire::ShardList> list() const;

 private:
  void renew();

  mutable std::mutex mutex_;
  std::optional<ShardMap> map_;
  std::map<ShardId, Address> leaders_;
  std::shared_ptr<const wire::ShardList> list_;
};

}  // namespace membrain
