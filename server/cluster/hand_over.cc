#include "server/cluster/hand_over.h"

#include <charconv>
#include <utility>

namespace membrain {

namespace {

/// etcd takes 128 steps in one change by default, conditions apart.
constexpr std::size_t kMostSteps = 100;

}  // namespace

ShardWishes ShardWishes::of(const CoordinationView& view, const ClusterNames& names,
                            ShardId shard) {
  ShardWishes wishes;
  if (const CoordinationEntry* const entry = view.find(names.wanted(shard))) {
    wishes.leader = entry->value;
  }
  if (const CoordinationEntry* const entry = view.find(names.ready(shard))) {
    wishes.ready = entry->value;
    wishes.ready_since = entry->modified;
  }
  if (const CoordinationEntry* const entry = view.find(names.split(shard))) {
    const char* const end = entry->value.data() + entry->value.size();
    ShardId fresh;
    const auto read = std::from_chars(entry->value.data(), end, fresh.value);
    if (read.ec == std::errc{} && read.ptr == end) wishes.split = fresh;
  }
  return wishes;
}

CoordinationChange resignation(const ClusterNames& names, ShardId shard, Epoch epoch) {
  CoordinationChange change;
  change.if_created.push_back({names.leader(shard), epoch.value});
  change.removals.push_back(names.leader(shard));
  return change;
}

Result<CoordinationChange> splitting(const ClusterNames& names, ShardId shard, Epoch epoch,
                                     ShardId fresh, const CoordinationView& view,
                                     const CoordinationEntry& map) {
  const Result<ShardMap> before = ShardMap::parse(map.value);
  if (!before) return fail(before.error());
  const Result<ShardMap> after = before->split(shard, fresh);
  if (!after) return fail(after.error());
  CoordinationChange change = resignation(names, shard, epoch);
  change.if_modified.push_back({names.map(), map.modified});
  change.puts.push_back({names.map(), after->text(), LeaseId{}});
  change.puts.push_back({names.founded(fresh), "split", LeaseId{}});
  change.removals.push_back(names.split(shard));
  for (const CoordinationEntry& entry : view.entries) {
    const auto space = names.space_of(shard, entry.key);
    if (space) change.puts.push_back({names.era(fresh, *space), entry.value, LeaseId{}});
  }
  if (change.puts.size() + change.removals.size() > kMostSteps) {
    return fail(Errc::out_of_capacity, "too many namespaces were cleared for a split in one step");
  }
  return change;
}

CoordinationChange dropping_split(const ClusterNames& names, ShardId shard, Epoch epoch) {
  CoordinationChange change;
  change.if_created.push_back({names.leader(shard), epoch.value});
  change.removals.push_back(names.split(shard));
  return change;
}

}  // namespace membrain
