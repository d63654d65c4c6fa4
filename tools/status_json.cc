#include "tools/status_json.h"

#include <nlohmann/json.hpp>

#include <fmt/format.h>

namespace membrain {
namespace {

using Json = nlohmann::ordered_json;

Json node_of(const wire::NodeEntry& node) {
  return Json{{"node", node.node.value},
              {"incarnation", node.incarnation.value},
              {"alive", node.alive},
              {"address", node.address},
              {"host", node.host},
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

}  // namespace

std::string to_json(const ShardStatus& status) {
  Json object;
  object["address"] = status.address;
  object["leader"] = status.leader;
  object["epoch"] = status.epoch;
  object["uptime_ms"] = status.uptime.count();
  object["grace"] = status.grace;
  Json& counters = object["counters"] = Json::object();
  for (const wire::Counter& counter : status.counters) counters[counter.name] = counter.value;
  object["nodes"] = list_of(status.nodes, node_of);
  object["namespaces"] = list_of(status.namespaces, namespace_of);
  object["sessions"] = list_of(status.sessions, session_of);
  // Labels are a peer's words: what is not UTF-8 in them is replaced.
  return object.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace membrain
