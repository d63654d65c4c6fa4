#include "server/cluster/steering.h"

#include <algorithm>
#include <utility>

namespace membrain {

namespace {

std::string text_of(const CoordinationView& view, const std::string& key) {
  const CoordinationEntry* const entry = view.find(key);
  return entry == nullptr ? std::string() : entry->value;
}

}  // namespace

const SteeredShard* SteeredCluster::find(ShardId shard) const noexcept {
  const auto found = std::ranges::find(shards, shard, &SteeredShard::shard);
  return found == shards.end() ? nullptr : &*found;
}

Result<SteeredCluster> steered(const CoordinationView& view, const ClusterNames& names) {
  const CoordinationEntry* const map = view.find(names.map());
  if (map == nullptr) return fail(Errc::not_found, "there is no cluster of that name");
  Result<ShardMap> parsed = ShardMap::parse(map->value);
  if (!parsed) return fail(parsed.error());
  SteeredCluster cluster;
  cluster.map = std::move(*parsed);
  std::map<LeaseId, std::string> by_lease;
  for (const CoordinationEntry& entry : view.entries) {
    if (!entry.key.starts_with(names.servers())) continue;
    const std::string name = entry.key.substr(names.servers().size());
    if (name.empty()) continue;  // which means nobody
    cluster.servers[name] = entry.value;
    by_lease[entry.lease] = name;
  }
  for (std::size_t i = 0; i < cluster.map.count(); ++i) {
    SteeredShard one;
    one.shard = cluster.map.shard(i);
    one.range = cluster.map.range(i);
    one.wanted = text_of(view, names.wanted(one.shard));
    if (const CoordinationEntry* const leader = view.find(names.leader(one.shard))) {
      one.epoch = Epoch{leader->created};
      if (const auto who = by_lease.find(leader->lease); who != by_lease.end()) {
        one.leader = who->second;
      }
    }
    cluster.shards.push_back(std::move(one));
  }
  return cluster;
}

Result<std::map<ShardId, std::string>> spread(const SteeredCluster& cluster,
                                              const std::string& without) {
  std::map<std::string, std::vector<ShardId>> led;
  for (const auto& [name, address] : cluster.servers) {
    if (name != without) led[name];
  }
  if (led.empty()) return fail(Errc::unavailable, "no other server is alive");
  const std::size_t most = (cluster.shards.size() + led.size() - 1) / led.size();
  std::vector<ShardId> homeless;
  for (const SteeredShard& shard : cluster.shards) {
    const auto home = led.find(shard.leader);
    if (home != led.end() && home->second.size() < most) {
      home->second.push_back(shard.shard);
    } else {
      homeless.push_back(shard.shard);
    }
  }
  const auto fewest = [&led] {
    return std::ranges::min_element(led, {}, [](const auto& one) { return one.second.size(); });
  };
  for (const ShardId shard : homeless) fewest()->second.push_back(shard);
  // A server may still have one more than it must, where another has one less than it could.
  for (const std::size_t least = cluster.shards.size() / led.size();
       fewest()->second.size() < least;) {
    const auto richest =
        std::ranges::max_element(led, {}, [](const auto& one) { return one.second.size(); });
    fewest()->second.push_back(richest->second.back());
    richest->second.pop_back();
  }
  std::map<ShardId, std::string> by_shard;
  for (const auto& [name, shards] : led) {
    for (const ShardId shard : shards) by_shard[shard] = name;
  }
  return by_shard;
}

CoordinationChange wishing(const ClusterNames& names,
                           const std::map<ShardId, std::string>& by_shard) {
  CoordinationChange change;
  for (const auto& [shard, server] : by_shard) {
    change.puts.push_back({names.wanted(shard), server, LeaseId{}});
  }
  return change;
}

Result<WishedSplit> wishing_split(const SteeredCluster& cluster, const ClusterNames& names,
                                  ShardId shard) {
  WishedSplit wish;
  for (const SteeredShard& one : cluster.shards) {
    wish.fresh.value = std::max(wish.fresh.value, one.shard.value + 1);
  }
  if (const Result<ShardMap> split = cluster.map.split(shard, wish.fresh); !split) {
    return fail(split.error());
  }
  wish.change.puts.push_back({names.split(shard), std::to_string(wish.fresh.value), LeaseId{}});
  return wish;
}

}  // namespace membrain
