#include "server/shard_roster.h"

#include <utility>

namespace membrain {

void ShardRoster::set_map(const ShardMap& map) {
  const std::lock_guard lock(mutex_);
  map_ = map;
  renew();
}

void ShardRoster::set_leader(ShardId shard, const Address& leader) {
  const std::lock_guard lock(mutex_);
  leaders_[shard] = leader;
  renew();
}

std::shared_ptr<const wire::ShardList> ShardRoster::list() const {
  const std::lock_guard lock(mutex_);
  return list_;
}

void ShardRoster::renew() {
  if (!map_) return;
  auto list = std::make_shared<wire::ShardList>();
  list->version = map_->version();
  for (std::size_t i = 0; i < map_->count(); ++i) {
    const auto known = leaders_.find(map_->shard(i));
    const bool told = known != leaders_.end();
    list->shards.push_back(
        {map_->shard(i), map_->range(i).first, told ? known->second : Address()});
  }
  list_ = std::move(list);
}

}  // namespace membrain
