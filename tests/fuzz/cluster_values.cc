// What stands under a cluster's names in etcd, where people and other programs can write too: the
// map of shards, living servers, leaders, and what is wished of a shard.
//
// Input: lines. The first is the map's text; of each other the first word is a key below the
// cluster's root, the second its lease, and the rest its value.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "protocol/shard_map.h"
#include "server/cluster/hand_over.h"
#include "server/cluster/names.h"
#include "server/cluster/steering.h"
#include "tests/fuzz/target.h"

namespace membrain::fuzz {
namespace {

std::string_view next(std::string_view& text, char end) {
  const std::size_t at = std::min(text.find(end), text.size());
  const std::string_view taken = text.substr(0, at);
  text.remove_prefix(std::min(at + 1, text.size()));
  return taken;
}

/// As etcd gives it: in the order of the keys, each once.
CoordinationView view_of(std::string_view map, std::string_view lines, const ClusterNames& names) {
  std::map<std::string, CoordinationEntry> entries;
  CoordinationView view;
  const auto put = [&](std::string key, std::string_view value, std::uint64_t lease) {
    CoordinationEntry entry{key, std::string(value), view.revision + 1, view.revision + 1, {lease}};
    ++view.revision;
    entries.insert_or_assign(std::move(key), std::move(entry));
  };
  put(names.map(), map, 0);
  while (!lines.empty()) {
    std::string_view line = next(lines, '\n');
    std::string key = names.root() + std::string(next(line, ' '));
    const std::string_view number = next(line, ' ');
    std::uint64_t lease = 0;
    std::from_chars(number.data(), number.data() + number.size(), lease);
    put(std::move(key), line, lease);
  }
  for (auto& [key, entry] : entries) view.entries.push_back(std::move(entry));
  return view;
}

/// Every key has one shard, and each shard's range the same ends as its neighbours'.
void sound(const ShardMap& map) {
  std::uint64_t first = 0;
  for (std::size_t i = 0; i < map.count(); ++i) {
    const KeyRange range = map.range(i);
    check(range.first == first && range.last >= range.first, "a gap between two shards");
    for (const std::uint64_t high : {range.first, range.last}) {
      check(map.index_of(BlockKey{0, high}) == i, "a key in a range of another shard");
    }
    check(map.index_of(map.shard(i)) == i, "a shard that cannot be found");
    first = range.last + 1;
  }
  check(map.count() > 0 && first == 0, "the last shard does not end at the last key");
}

void split_each(const ShardMap& map, std::uint32_t fresh) {
  for (std::size_t i = 0; i < map.count(); ++i) {
    const Result<ShardMap> halves = map.split(map.shard(i), ShardId{fresh});
    if (!halves) continue;
    sound(*halves);
    check(halves->count() == map.count() + 1, "a split makes one shard more");
    check(halves->version() > map.version(), "a later map with a lower version");
  }
}

void spread_over(const SteeredCluster& cluster, const ClusterNames& names) {
  const auto by_shard = spread(cluster, "");
  if (!by_shard) return check(cluster.servers.empty(), "servers live, and nobody may lead");
  check(by_shard->size() == cluster.shards.size(), "a shard without a leader");
  std::map<std::string, std::size_t> led;
  for (const auto& [name, address] : cluster.servers) led[name] = 0;
  for (const auto& [shard, name] : *by_shard) {
    check(led.contains(name), "somebody is to lead who does not live");
    ++led[name];
  }
  const auto few = [](const auto& one, const auto& other) { return one.second < other.second; };
  const auto [least, most] = std::minmax_element(led.begin(), led.end(), few);
  check(most->second - least->second <= 1, "one leads more than another by two");
  check(wishing(names, *by_shard).puts.size() == by_shard->size(), "a wish for each");
}

void steer(const CoordinationView& view, const ClusterNames& names) {
  const Result<SteeredCluster> cluster = steered(view, names);
  if (!cluster) return;
  check(cluster->shards.size() == cluster->map.count(), "all shards of the map, and no other");
  spread_over(*cluster, names);
  for (const SteeredShard& one : cluster->shards) {
    check(cluster->find(one.shard) != nullptr, "a shard that cannot be found");
    const ShardWishes wishes = ShardWishes::of(view, names, one.shard);
    check(wishes.leader == one.wanted, "two readers of one wish");
    const Result<WishedSplit> wished = wishing_split(*cluster, names, one.shard);
    if (wished) check(cluster->find(wished->fresh) == nullptr, "a fresh shard that is there");
    const ShardId fresh = wishes.split.value_or(wished ? wished->fresh : ShardId{});
    const auto change =
        splitting(names, one.shard, one.epoch, fresh, view, *view.find(names.map()));
    if (change) check(!change->puts.empty(), "a split that writes nothing");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text = text_of(bytes_of(data, size));
  const std::string_view map = next(text, '\n');
  if (const Result<ShardMap> parsed = ShardMap::parse(map)) {
    sound(*parsed);
    check(ShardMap::parse(parsed->text()) == *parsed, "a map changed on its way");
    split_each(*parsed, UINT32_MAX);
  }
  const ClusterNames names("fuzz");
  steer(view_of(map, text, names), names);
  return 0;
}

}  // namespace membrain::fuzz
