#include "tools/ctl_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "tools/units.h"

namespace membrain {
namespace {

std::string words_of(const CoordinationMember& member) {
  if (member.version.empty()) return "does not answer";
  return fmt::format("version {}, {}{}", member.version, format_size(member.bytes),
                     member.has_leader ? "" : ", has no leader: too few others answer it");
}

}  // namespace

std::string known_servers(const SteeredCluster& cluster) {
  std::string names;
  for (const auto& [name, address] : cluster.servers) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "none is alive" : names;
}

std::string etcd_lines(const std::vector<CoordinationMember>& members) {
  std::string text;
  for (const CoordinationMember& member : members) {
    text += fmt::format("\netcd {}: {}", member.address, words_of(member));
  }
  return text;
}

std::string cluster_json(const SteeredCluster& cluster,
                         const std::vector<CoordinationMember>& members) {
  using Json = nlohmann::ordered_json;
  Json etcd = Json::array();
  for (const CoordinationMember& member : members) {
    etcd.push_back(Json{{"address", member.address},
                        {"answers", !member.version.empty()},
                        {"version", member.version},
                        {"has_leader", member.has_leader},
                        {"bytes", member.bytes}});
  }
  Json servers = Json::array();
  for (const auto& [name, address] : cluster.servers) {
    servers.push_back(Json{{"name", name}, {"address", address}});
  }
  Json shards = Json::array();
  for (const SteeredShard& one : cluster.shards) {
    shards.push_back(Json{{"shard", one.shard.value},
                          {"first_key", fmt::format("{:016x}", one.range.first)},
                          {"last_key", fmt::format("{:016x}", one.range.last)},
                          {"leader", one.leader},
                          {"epoch", one.epoch.value},
                          {"wanted", one.wanted}});
  }
  const Json all{{"map_version", cluster.map.version()},
                 {"etcd", etcd},
                 {"servers", servers},
                 {"shards", shards}};
  return all.dump(2) + "\n";
}

std::string cluster_table(const SteeredCluster& cluster,
                          const std::vector<CoordinationMember>& members) {
  std::size_t width = 6;
  for (const auto& [name, address] : cluster.servers) width = std::max(width, name.size());
  std::string text = fmt::format("map of shards, version {}; servers alive: {}\n",
                                 cluster.map.version(), known_servers(cluster));
  text += fmt::format("  shard  share of keys  {:<{}}  {:>10}  wanted\n", "leader", width, "epoch");
  for (const SteeredShard& one : cluster.shards) {
    const double share =
        static_cast<double>(one.range.last - one.range.first) / static_cast<double>(UINT64_MAX);
    text += fmt::format("  {:>5}  {:>11.2f} %  {:<{}}  {:>10}  {}\n", one.shard.value, share * 100,
                        one.leader.empty() ? "-" : one.leader, width, one.epoch.value, one.wanted);
  }
  if (const std::string etcd = etcd_lines(members); !etcd.empty()) text += etcd.substr(1) + "\n";
  return text;
}

}  // namespace membrain
