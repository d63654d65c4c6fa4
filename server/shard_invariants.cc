// The shard's self check.
#include <algorithm>
#include <string>
#include <vector>

#include "server/shard.h"

namespace membrain {

std::string Shard::check_invariants() const {
  if (std::string wrong = catalog_.check_invariants(); !wrong.empty()) return wrong;
  std::vector<std::uint32_t> pins(records_.entries.end(), 0);
  std::size_t total = 0;
  for (const auto& [id, session] : sessions_.all()) {
    for (const auto& [lookup, pinned] : session.lookups) {
      if (pinned.entries.empty()) return "a lookup that pins nothing was kept";
      if (session.settled(lookup)) return "a lookup that is over pins";
      std::vector<Ref> entries = pinned.entries;
      std::sort(entries.begin(), entries.end());
      if (std::adjacent_find(entries.begin(), entries.end()) != entries.end()) {
        return "a lookup pins a block twice";
      }
      for (const Ref ref : entries) {
        if (ref >= pins.size() || !records_.entries[ref].in_use()) return "a pin of nothing";
        ++pins[ref];
      }
      total += entries.size();
    }
  }
  if (total != pins_) return "the count of pins is wrong";
  for (Ref ref = 0; ref < records_.entries.end(); ++ref) {
    if (pins[ref] != records_.entries[ref].pins) return "pins and the sets of pins differ";
  }
  for (Ref ref = 0; ref < records_.replicas.end(); ++ref) {
    const Replica& replica = records_.replicas[ref];
    if (!replica.in_use()) continue;
    const Node& node = nodes_[replica.node];
    if (!node.registered) return "a replica of a lost node was kept";
    if (node.condemned.knows({replica.slot, replica.generation})) {
      return "a condemned slot is in the catalog";
    }
  }
  return copies_.check_invariants();
}

}  // namespace membrain
