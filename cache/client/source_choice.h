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

/// Index of the replica to try next: on this host before elsewhere, a node's memory before a GPU's,
/// else spread over the nodes by weight; another `salt`, another choice. So: this host's memory
/// (mapped, one copy over the bus), a peer's GPU by NVLink, memory elsewhere, GPUs elsewhere: these
/// go by the same network as memory does, cost their engines a copy, and may go at any time. Never
/// one that was tried, or whose node is unknown or has failed; nothing if none is left. `views[i]`
/// is the node of `replicas[i]`.
[[nodiscard]] std::optional<std::size_t> choose_source(std::span<const FoundReplica> replicas,
                                                       std::span<const NodeView> views,
                                                       TriedReplicas tried, const BlockKey& key,
                                                       std::uint64_t salt) noexcept;

}  // namespace membrain
