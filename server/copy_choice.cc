#include "server/copy_choice.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace membrain {

namespace {

bool takes_blocks(const Node& node) noexcept {
  return node.registered && node.connected && node.reported && !node.leaving &&
         node.tier == Tier::host;
}

template <class Property>
bool apart(const Nodes& nodes, std::span<const NodeIndex> holders, const std::string& own,
           Property property) {
  return std::ranges::none_of(holders,
                              [&](NodeIndex holder) { return nodes[holder].*property == own; });
}

/// Of a node's room, less the more it moves: a node that moves a gigabyte a second counts half.
double attraction(const Node& node, std::uint64_t room_bytes) noexcept {
  constexpr double kMuch = 1 << 30;
  return static_cast<double>(room_bytes) / (1 + static_cast<double>(node.load_bytes) / kMuch);
}

}  // namespace

Target choose_target(const Nodes& nodes, std::span<const NodeCopies> copies,
                     std::span<const NodeIndex> holders, wire::ZoneRule zones, std::uint32_t length,
                     TimePoint now) {
  using Distance = std::pair<bool, bool>;  // in another zone, if that matters; on another host
  Target best;
  Distance best_distance, busy_distance;
  double best_attraction = 0;
  bool any_busy = false;
  bool any_full = false;
  for (NodeIndex i = 0; i < nodes.end(); ++i) {
    const Node& node = nodes[i];
    const bool holds = std::ranges::find(holders, i) != holders.end();
    if (!takes_blocks(node) || holds) continue;
    const std::uint64_t coming = copies[i].coming_bytes + length;
    const bool later = now < copies[i].full_until || now < copies[i].avoid_until;
    if (later || node.free_bytes < coming) {
      any_full = true;
      continue;
    }
    const bool zone =
        zones != wire::ZoneRule::spread || apart(nodes, holders, node.zone, &Node::zone);
    const Distance distance{zone, apart(nodes, holders, node.host, &Node::host)};
    const bool busy = copies[i].taking >= kMostCopiesOfNode ||
                      (copies[i].taking > 0 && coming > kMostComingBytes);
    if (busy) {
      busy_distance = any_busy ? std::max(busy_distance, distance) : distance;
      any_busy = true;
      continue;
    }
    const std::tuple rank{distance, attraction(node, node.free_bytes - coming)};
    if (best.choice == Choice::made && rank <= std::tuple{best_distance, best_attraction}) continue;
    best = {Choice::made, i};
    std::tie(best_distance, best_attraction) = rank;
  }
  const bool made = best.choice == Choice::made;
  if (any_busy && (!made || busy_distance > best_distance)) return {Choice::busy};
  if (!made && any_full) return {Choice::full};
  return best;
}

NodeIndex choose_giver(const Nodes& nodes, std::span<const NodeCopies> copies,
                       std::span<const NodeIndex> holders) {
  NodeIndex best = Nodes::kNoNode;
  for (const NodeIndex holder : holders) {
    if (!nodes[holder].connected || copies[holder].giving >= kMostCopiesOfNode) continue;
    if (best == Nodes::kNoNode || copies[holder].giving < copies[best].giving) best = holder;
  }
  return best;
}

}  // namespace membrain
