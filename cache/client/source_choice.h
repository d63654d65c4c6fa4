// Which replica of a block is fetched next. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/clock.h"
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

/// What is known of the way to a replica.
struct SourceView {
  NodeView node;           ///< usable: it may be alive
  bool avoided = false;    ///< its lane is open, or cannot be connected yet
  bool doubted = false;    ///< its lane failed a short while ago
  Duration expected = {};  ///< what the block would take; zero: nothing is known
};

/// A source that takes this many times as long as the best one is no better for being near.
inline constexpr int kMuchSlower = 4;

/// Index of the replica to try next: one whose lane is not doubted before others; then one that is
/// not much slower by measurement (what is not measured is not slower); then on this host before
/// elsewhere, a node's memory before a GPU's, else spread over the nodes by weight; another `salt`,
/// another choice. So, where all lanes are well: this host's memory (mapped, one copy over the
/// bus), a peer's GPU by NVLink, memory elsewhere, GPUs elsewhere: these go by the same network as
/// memory does, cost their engines a copy, and may go at any time. Never one that was tried or is
/// avoided, or whose node is unknown or dead; nothing if none is left. `views[i]` is the way to
/// `replicas[i]`.
[[nodiscard]] std::optional<std::size_t> choose_source(std::span<const FoundReplica> replicas,
                                                       std::span<const SourceView> views,
                                                       TriedReplicas tried, const BlockKey& key,
                                                       std::uint64_t salt) noexcept;

}  // namespace membrain
