#include "cache/client/placement.h"

#include <algorithm>
#include <tuple>

#include "cache/client/spread.h"

namespace membrain {

namespace {
constexpr double kMuch = 1 << 30;  ///< bytes a second: who moves so many draws half
constexpr std::uint64_t kLeastShare = 64;
}  // namespace

double source_weight(std::uint64_t load_bytes) noexcept {
  return 1 / (1 + static_cast<double>(load_bytes) / kMuch);
}

double place_weight(std::uint64_t capacity_bytes, std::uint64_t free_bytes,
                    std::uint64_t load_bytes) noexcept {
  const std::uint64_t room = std::max({free_bytes, capacity_bytes / kLeastShare, std::uint64_t{1}});
  return static_cast<double>(room) * source_weight(load_bytes);
}

NodeId choose_node(std::span<const NodeView> nodes, const BlockKey& key, NodeId avoid) noexcept {
  NodeId best;
  std::tuple<bool, double> best_rank{};
  for (const NodeView& node : nodes) {
    if (!node.usable || node.node == avoid) continue;
    const std::tuple rank{node.same_host, spread_score(key, node.node, node.weight, 0)};
    if (best && rank <= best_rank) continue;
    best = node.node;
    best_rank = rank;
  }
  return best;
}

}  // namespace membrain
