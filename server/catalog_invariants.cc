// The catalog's self check.
#include <string>
#include <vector>

#include "server/catalog.h"

namespace membrain {

/// Another one behind it in its chain, on the same node.
bool Catalog::has_twin(Ref replica) const noexcept {
  const NodeIndex node = records_.replicas[replica].node;
  for (Ref at = sound(records_.replicas[replica].next); at != kNoRef;
       at = sound(records_.replicas[at].next)) {
    if (records_.replicas[at].node == node) return true;
  }
  return false;
}

const char* Catalog::check_entry(Ref ref) const {
  const Entry& entry = records_.entries[ref];
  if (find(entry.name()) != ref) return "the index does not find an entry";
  if (entry.replicas == kNoRef && entry.pins == 0 && entry.children == 0) {
    return "an entry that nothing holds was kept";
  }
  for (Ref at = entry.replicas; at != kNoRef; at = records_.replicas[at].next) {
    const Replica& replica = records_.replicas[at];
    if (replica.entry != ref) return "a replica hangs on another entry";
    if (replica_at(replica.node, replica.slot) != at) return "the index does not find a slot";
    if (!replica.sound && entry.pins == 0) return "an unpinned corrupt replica was kept";
    if (replica.sound && replica.tier == Tier::host && has_twin(at)) {
      return "a node has two replicas of a block";
    }
  }
  if (entry.parent == kNoRef) return "";
  const Entry& parent = records_.entries[entry.parent];
  if (!parent.in_use()) return "a parent is gone";
  if (parent.depth >= entry.depth) return "a parent is deeper than its child";
  return "";
}

const char* Catalog::check_children_and_counts() const {
  std::vector<std::uint32_t> children(records_.entries.end(), 0);
  CatalogCounts counts;
  std::vector<std::uint32_t> by_node(by_node_.size(), 0);
  for (Ref ref = 0; ref < records_.entries.end(); ++ref) {
    const Entry& entry = records_.entries[ref];
    if (!entry.in_use()) continue;
    if (entry.parent != kNoRef) ++children[entry.parent];
    if (has_sound(ref)) ++counts.blocks;
    if (entry.pins > 0) ++counts.pinned_blocks;
    for (Ref at = entry.replicas; at != kNoRef; at = records_.replicas[at].next) {
      ++counts.replicas;
      ++by_node[records_.replicas[at].node];
      counts.bytes += records_.replicas[at].length;
    }
  }
  for (Ref ref = 0; ref < records_.entries.end(); ++ref) {
    if (children[ref] != records_.entries[ref].children) return "a count of children is wrong";
  }
  if (counts.replicas != records_.replicas.count()) return "a replica hangs on no entry";
  if (counts.blocks != counts_.blocks || counts.pinned_blocks != counts_.pinned_blocks ||
      counts.replicas != counts_.replicas || counts.bytes != counts_.bytes || by_node != by_node_) {
    return "the catalog's counts are wrong";
  }
  return "";
}

std::string Catalog::check_invariants() const {
  for (Ref ref = 0; ref < records_.entries.end(); ++ref) {
    if (!records_.entries[ref].in_use()) continue;
    if (const char* wrong = check_entry(ref); *wrong) return wrong;
  }
  if (by_name_.count() != records_.entries.count()) return "index and entries differ in number";
  if (by_slot_.count() != records_.replicas.count()) return "index and slots differ in number";
  if (const char* wrong = check_children_and_counts(); *wrong) return wrong;
  return policy_.check_lists();
}

}  // namespace membrain
