// How choices among equals are spread. Pure.
#pragma once

#include <cstdint>

#include "base/ids.h"

namespace membrain {

/// Of several nodes, the one with the highest score is taken for a block: each is taken for as many
/// blocks as its weight's share is, and one that joins or leaves moves only its own share (weighted
/// rendezvous hashing). Another salt, another choice: with one for each operation reads of one
/// block go to all that have it.
[[nodiscard]] double spread_score(const BlockKey& key, NodeId node, double weight,
                                  std::uint64_t salt) noexcept;

}  // namespace membrain
