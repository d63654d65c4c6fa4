// Need shares: how much of what a node needs each shard is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "cache/node/slot_pool.h"
#include "protocol/shard_map.h"

namespace membrain {

/// A shard that can be asked.
struct NeedShare {
  KeyRange range;
  bool counts = true;  ///< is asked for victims of its choice; else only for those it is named
};

/// Finds the key of the block in a slot.
using KeyOf = std::function<std::optional<BlockKey>(const wire::SlotRef&)>;

/// What each of `shares` is asked for, in their order. Counts go by the widths of the ranges, as
/// shards hold blocks; what cannot be divided goes to one after the other, beginning elsewhere with
/// every `turn`. A candidate goes to the shard that has its key.
///
/// Pure.
[[nodiscard]] std::vector<std::vector<Need>> share_needs(const std::vector<Need>& needs,
                                                         std::span<const NeedShare> shares,
                                                         std::size_t turn, const KeyOf& key_of);

}  // namespace membrain
