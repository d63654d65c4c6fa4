// Which replica of a block is fetched next. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/ids.h"
#include "cache/client/placement.h"

namespace membrain {

/// One copy of a block part.
struct FoundReplica {
  Location at;
  Tier tier = Tier::host;
};

/// Replicas that were tried already, as bits by index. A part has at most wire::kMaxReplicas.
using TriedReplicas = std::uint8_t;

/// Index of the replica to try next: on this host before elsewhere, a faster tier before a slower
/// one, else spread over the nodes by weight; another `salt`, another choice. Never one that was
/// tried, or whose node is unknown or has failed; nothing if none is left. `views[i]` is the node
/// of `replicas[i]`.
[[nodiscard]] std::optional<std::size_t> choose_source(std::span<const FoundReplica> replicas,
                                                       std::span<const NodeView> views,
                                                       TriedReplicas tried, const BlockKey& key,
                                                       std::uint64_t salt) noexcept;

}  // namespace membrain
