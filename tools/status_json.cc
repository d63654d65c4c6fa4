#include "tools/status_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace membrain {
namespace {

using Json = nlohmann::ordered_json;

Json node_of(const wire::NodeEntry& node) {
  return Json{{"node", node.node.value},
              {"incarnation", node.incarnation.value},
              {"alive", node.alive},
              {"address", node.address},
              {"host", node.host},
              {"zone", node.zone},
              {"load_bytes", node.load_bytes},
              {"tier", node.tier == Tier::host ? "host" : "device"},
              {"capacity_bytes", node.capacity_bytes},
              {"free_bytes", node.free_bytes}};
}

Json namespace_of(const NamespaceStatus& space) {
  return Json{{"id", fmt::format("{:016x}", space.id)},
              {"era", space.era},
              {"label", space.label},
              {"tenant", space.tenant}};
}

Json session_of(const SessionStatus& session) {
  return Json{{"label", session.label},
              {"tenant", session.tenant},
              {"connected", session.connected},
              {"pinning_lookups", session.lookups}};
}

template <class Items, class Convert>
Json list_of(const Items& items, Convert convert) {
  Json list = Json::array();
  for (const auto& item : items) list.push_back(convert(item));
  return list;
}

Json shard_of(const ShardStatus& shard) {
  Json object{{"shard", shard.shard.value},
              {"address", shard.address},
              {"leader", shard.leader},
              {"epoch", shard.epoch}};
  if (shard.epoch == 0) return object;  // somebody else's to say
  object["first_key"] = fmt::format("{:016x}", shard.range.first);
  object["last_key"] = fmt::format("{:016x}", shard.range.last);
  object["uptime_ms"] = shard.uptime.count();
  object["grace"] = shard.grace;
  Json& counters = object["counters"] = Json::object();
  for (const wire::Counter& counter : shard.counters) counters[counter.name] = counter.value;
  return object;
}

/// What this server's shards know together: each counter summed, each node and namespace once.
ShardStatus together(const std::vector<ShardStatus>& shards) {
  ShardStatus all = shards.front();
  std::map<std::string, std::uint64_t> counters;
  std::map<NodeId, wire::NodeEntry> nodes;
  std::map<std::uint64_t, NamespaceStatus> namespaces;
  all.sessions.clear();
  for (const ShardStatus& shard : shards) {
    for (const wire::Counter& counter : shard.counters) counters[counter.name] += counter.value;
    for (const wire::NodeEntry& node : shard.nodes) nodes.insert_or_assign(node.node, node);
    for (const NamespaceStatus& space : shard.namespaces) namespaces.try_emplace(space.id, space);
    all.sessions.insert(all.sessions.end(), shard.sessions.begin(), shard.sessions.end());
    all.epoch = std::max(all.epoch, shard.epoch);
    all.uptime = std::max(all.uptime, shard.uptime);
    all.grace = all.grace || shard.grace;
  }
  all.counters.clear(), all.nodes.clear(), all.namespaces.clear();
  for (const auto& [name, value] : counters) all.counters.push_back({name, value});
  for (const auto& [id, node] : nodes) all.nodes.push_back(node);
  for (const auto& [id, space] : namespaces) all.namespaces.push_back(space);
  return all;
}

}  // namespace

std::string to_json(const std::vector<ShardStatus>& shards) {
  const ShardStatus status = together(shards);
  Json object;
  object["address"] = status.address;
  object["leader"] = status.leader;
  object["epoch"] = status.epoch;
  object["uptime_ms"] = status.uptime.count();
  object["grace"] = status.grace;
  Json& counters = object["counters"] = Json::object();
  for (const wire::Counter& counter : status.counters) counters[counter.name] = counter.value;
  object["shards"] = list_of(shards, shard_of);
  object["nodes"] = list_of(status.nodes, node_of);
  object["namespaces"] = list_of(status.namespaces, namespace_of);
  object["sessions"] = list_of(status.sessions, session_of);
  // Labels are a peer's words: what is not UTF-8 in them is replaced.
  return object.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace membrain
