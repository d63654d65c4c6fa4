#include "tools/replica_options.h"

#include <algorithm>
#include <limits>

#include "tools/program.h"

namespace membrain {

void CopyOptions::bind(Command& command) {
  command.count("replicas", replicas, "Nodes that are to keep a block, 1 to 4")
      .text("zone-rule", zone_rule, "any|spread",
            "Replicas on any nodes, or in different zones (membrain node --zone)")
      .size("repair-bandwidth", repair_bandwidth,
            "Bytes that nodes copy from each other in a second, all together; 0: none")
      .count("hot-lookups", hot_lookups,
             "Lookups, halved every second, for which a block gets one more replica; 0: never");
}

Outcome<ReplicaRule> CopyOptions::rule() const {
  if (replicas < 1 || replicas > wire::kMaxReplicas) {
    return complain("--replicas must be 1 to {}", wire::kMaxReplicas);
  }
  ReplicaRule rule;
  rule.replicas = static_cast<std::uint8_t>(replicas);
  if (zone_rule == "spread") {
    rule.zones = wire::ZoneRule::spread;
  } else if (zone_rule != "any") {
    return complain("--zone-rule: \"{}\" is neither any nor spread", zone_rule);
  }
  return rule;
}

CopyLimits CopyOptions::limits() const noexcept {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  return {repair_bandwidth, static_cast<std::uint32_t>(std::min(hot_lookups, kMost))};
}

}  // namespace membrain
