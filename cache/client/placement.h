// Which node keeps a block. Pure.
#pragma once

#include <cstdint>
#include <span>

#include "base/ids.h"

namespace membrain {

/// What placement and source choice know of a node.
struct NodeView {
  NodeId node;
  bool usable = false;     ///< for what is asked: to keep a block, or to fetch one from
  bool same_host = false;  ///< as this client
};

/// The node for a block: one on this host if there is one, else any; never `avoid` (0: none).
/// Among the candidates keys spread evenly, and a node that joins or leaves moves only its own
/// share (highest random weight). None if no candidate is usable.
[[nodiscard]] NodeId choose_node(std::span<const NodeView> nodes, const BlockKey& key,
                                 NodeId avoid) noexcept;

/// A well-mixed number from a key and a node: who is preferred, where there is nothing else to
/// choose by.
[[nodiscard]] std::uint64_t affinity(const BlockKey& key, NodeId node) noexcept;

}  // namespace membrain
