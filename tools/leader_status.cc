#include "tools/leader_status.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "tools/whole_json.h"

namespace membrain {

std::uint64_t LeaderStatus::counter(const std::string& name) const {
  const auto found = counters.find(name);
  return found == counters.end() ? 0 : found->second;
}

std::map<std::uint64_t, LeaderStatus> led_shards(std::string_view status) {
  std::map<std::uint64_t, LeaderStatus> led;
  try {
    const nlohmann::json object = parse_whole_json(status);
    for (const nlohmann::json& shard : object.at("shards")) {
      LeaderStatus one;
      shard.at("epoch").get_to(one.epoch);
      if (one.epoch == 0) continue;
      shard.at("grace").get_to(one.grace);
      shard.at("counters").get_to(one.counters);
      led.emplace(shard.at("shard").get<std::uint64_t>(), std::move(one));
    }
  } catch (const nlohmann::json::exception&) {
    return {};
  }
  return led;
}

}  // namespace membrain
