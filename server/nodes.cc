#include "server/nodes.h"

#include <algorithm>

namespace membrain {

/// Half of the load is that of the time since the last word.
void Node::moved(std::uint64_t bytes, TimePoint now) noexcept {
  const double seconds = std::chrono::duration<double>(now - moved_at).count();
  if (bytes >= moved_bytes && moved_at != TimePoint{} && seconds > 0) {
    const double rate = static_cast<double>(bytes - moved_bytes) / seconds;
    load_bytes = static_cast<std::uint64_t>((static_cast<double>(load_bytes) + rate) / 2);
  }
  moved_bytes = bytes;
  moved_at = now;
}

NodeIndex Nodes::find(NodeId id) const noexcept {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? kNoNode : found->second;
}

NodeIndex Nodes::find_or_add(NodeId id) {
  if (const NodeIndex found = find(id); found != kNoNode) return found;
  auto index = static_cast<NodeIndex>(nodes_.size());
  if (nodes_.size() < wire::kMaxNodes) {
    nodes_.emplace_back();
  } else {
    index = kNoNode;
    for (NodeIndex i = 0; i < end(); ++i) {
      if (nodes_[i].registered) continue;
      if (index == kNoNode || nodes_[i].heard < nodes_[index].heard) index = i;
    }
    if (index == kNoNode) return kNoNode;
    by_id_.erase(nodes_[index].id);
    nodes_[index] = Node{};
  }
  nodes_[index].id = id;
  by_id_.emplace(id, index);
  return index;
}

std::size_t Nodes::registered_count() const noexcept {
  return static_cast<std::size_t>(std::count_if(nodes_.begin(), nodes_.end(),
                                                [](const Node& node) { return node.registered; }));
}

std::vector<NodeIndex> Nodes::lost(TimePoint now) const {
  std::vector<NodeIndex> silent;
  for (NodeIndex i = 0; i < end(); ++i) {
    if (nodes_[i].registered && now - nodes_[i].heard > ttl_) silent.push_back(i);
  }
  return silent;
}

void Nodes::renew_all(TimePoint now) noexcept {
  for (Node& node : nodes_) node.heard = now;
}

wire::NodeList Nodes::list(std::size_t max_bytes) const {
  wire::NodeList list;
  std::size_t bytes = 0;
  for (const bool living : {true, false}) {
    for (const Node& node : nodes_) {
      if (node.registered != living || !node.incarnation) continue;
      bytes += wire::kNodeEntryBytes + node.address.size() + node.host.size() + node.door.size() +
               node.zone.size();
      if (bytes > max_bytes) return list;
      wire::NodeEntry entry;
      entry.node = node.id;
      entry.incarnation = node.incarnation;
      entry.alive = living && node.connected;
      entry.address = node.address;
      entry.host = node.host;
      entry.capacity_bytes = node.leaving ? 0 : node.capacity_bytes;
      entry.free_bytes = node.leaving ? 0 : node.free_bytes;
      entry.door = node.door;
      entry.tier = node.tier;
      entry.zone = node.zone;
      entry.load_bytes = node.load_bytes;
      list.nodes.push_back(std::move(entry));
    }
  }
  return list;
}

}  // namespace membrain
