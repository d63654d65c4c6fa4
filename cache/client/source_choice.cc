#include "cache/client/source_choice.h"

#include <algorithm>
#include <tuple>

#include "cache/client/spread.h"

namespace membrain {

namespace {

bool may_be_used(const SourceView& view, std::size_t index, TriedReplicas tried) noexcept {
  return (tried >> index & 1U) == 0 && view.node.usable && !view.avoided;
}

/// How many times kMuchSlower than the best.
int slowness(Duration expected, Duration best) noexcept {
  int times = 0;
  while (best > Duration::zero() && expected / kMuchSlower >= best) {
    expected /= kMuchSlower;
    ++times;
  }
  return times;
}

}  // namespace

std::optional<std::size_t> choose_source(std::span<const FoundReplica> replicas,
                                         std::span<const SourceView> views, TriedReplicas tried,
                                         const BlockKey& key, std::uint64_t salt) noexcept {
  Duration fastest = Duration::max();
  for (std::size_t i = 0; i < replicas.size(); ++i) {
    if (!may_be_used(views[i], i, tried) || views[i].expected == Duration::zero()) continue;
    fastest = std::min(fastest, views[i].expected);
  }
  std::optional<std::size_t> best;
  std::tuple<bool, int, bool, int, double> best_rank{};
  for (std::size_t i = 0; i < replicas.size(); ++i) {
    if (!may_be_used(views[i], i, tried)) continue;
    const SourceView& view = views[i];
    const std::tuple rank{!view.doubted, -slowness(view.expected, fastest), view.node.same_host,
                          -static_cast<int>(replicas[i].tier),
                          spread_score(key, replicas[i].at.node, view.node.weight, salt)};
    if (best && rank <= best_rank) continue;
    best = i;
    best_rank = rank;
  }
  return best;
}

}  // namespace membrain
