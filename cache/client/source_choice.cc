#include "cache/client/source_choice.h"

#include <tuple>

#include "cache/client/spread.h"

namespace membrain {

std::optional<std::size_t> choose_source(std::span<const FoundReplica> replicas,
                                         std::span<const NodeView> views, TriedReplicas tried,
                                         const BlockKey& key, std::uint64_t salt) noexcept {
  std::optional<std::size_t> best;
  std::tuple<bool, int, double> best_rank{};
  for (std::size_t i = 0; i < replicas.size(); ++i) {
    if ((tried >> i & 1U) != 0 || !views[i].usable) continue;
    const std::tuple rank{views[i].same_host, -static_cast<int>(replicas[i].tier),
                          spread_score(key, replicas[i].at.node, views[i].weight, salt)};
    if (best && rank <= best_rank) continue;
    best = i;
    best_rank = rank;
  }
  return best;
}

}  // namespace membrain
