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
  double weight = 1;       ///< among equals: twice as much draws twice as many blocks
};

/// The node for a block: one on this host if there is one, else any; never `avoid` (0: none).
/// Among the candidates keys spread by their weights, and a node that joins or leaves moves only
/// its own share. None if no candidate is usable.
[[nodiscard]] NodeId choose_node(std::span<const NodeView> nodes, const BlockKey& key,
                                 NodeId avoid) noexcept;

/// What a node draws as a place: by its free room, less the more it moves. A full one, or one that
/// has not said yet, still draws a little: the shard makes room.
[[nodiscard]] double place_weight(std::uint64_t capacity_bytes, std::uint64_t free_bytes,
                                  std::uint64_t load_bytes) noexcept;
/// And as a source: less the more it moves.
[[nodiscard]] double source_weight(std::uint64_t load_bytes) noexcept;

}  // namespace membrain
