#include "cache/client/placement.h"

#include <tuple>

namespace membrain {

std::uint64_t affinity(const BlockKey& key, NodeId node) noexcept {
  std::uint64_t z = key.low ^ (std::uint64_t{node.value} * 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

NodeId choose_node(std::span<const NodeView> nodes, const BlockKey& key, NodeId avoid) noexcept {
  NodeId best;
  std::tuple<bool, std::uint64_t> best_rank{};
  for (const NodeView& node : nodes) {
    if (!node.usable || node.node == avoid) continue;
    const std::tuple rank{node.same_host, affinity(key, node.node)};
    if (best && rank <= best_rank) continue;
    best = node.node;
    best_rank = rank;
  }
  return best;
}

}  // namespace membrain
