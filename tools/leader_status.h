// What servers' admin pages say of the shards that they lead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace membrain {

/// What the leader of a shard says of it, or those of all shards together.
struct LeaderStatus {
  std::size_t server = 0;   ///< which of them leads; of several shards: the one elected last
  std::uint64_t epoch = 0;  ///< of several shards the highest: it changes with each election
  bool grace = false;
  std::map<std::string, std::uint64_t> counters;

  [[nodiscard]] std::uint64_t counter(const std::string& name) const;
};

/// By shard, what a server's /status (status_json.h) says of those that it leads; none if it says
/// something else.
[[nodiscard]] std::map<std::uint64_t, LeaderStatus> led_shards(std::string_view status);

}  // namespace membrain
