// The messages by which anybody learns which shards there are and who leads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/codec.h"
#include "base/ids.h"
#include "protocol/frame.h"
#include "protocol/messages.h"

namespace membrain::wire {

inline constexpr std::size_t kMaxShards = 64;

/// Asks any server, whether it leads or not, without a session: what a cluster looks like is no
/// secret among those who know its secret.
using Shards = Empty<Type::shards>;

struct ShardEntry {
  ShardId shard;
  std::uint64_t first = 0;  ///< the lowest high half of a key that is this shard's
  std::string leader;       ///< its address; empty: nobody leads, or that is not known
};

/// By `first`, which begins with 0: a shard has the keys up to the next one's.
struct ShardList {
  static constexpr Type kType = Type::shard_list;
  std::uint32_t version = 0;  ///< of the ranges; leaders come and go without a new one
  std::vector<ShardEntry> shards;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

}  // namespace membrain::wire
