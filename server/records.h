// What the catalog keeps of a block and of each of its replicas: plain records in slabs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/ids.h"
#include "server/slab.h"

namespace membrain {

/// A namespace as the shard numbers it; an index into `Namespaces`.
using SpaceIndex = std::uint32_t;
inline constexpr SpaceIndex kNoSpace = 0xffffffff;
/// A node as the shard numbers it; an index into `Nodes`.
using NodeIndex = std::uint16_t;

/// The identity of one part of a block. The era is part of it: what was cleared is never found.
struct BlockName {
  BlockKey key;
  SpaceIndex space = kNoSpace;
  Era era;
  std::uint16_t part = 0;
  bool operator==(const BlockName&) const = default;
};

/// One part of a block. It lives as long as it has replicas, pins or children: without replicas it
/// is a ghost, which no lookup finds.
struct Entry {
  BlockKey key;
  SpaceIndex space = kNoSpace;  ///< kNoSpace: the record is not in use
  Era era;
  std::uint32_t depth = 0;  ///< blocks before it in the prompt
  Ref parent = kNoRef;      ///< of smaller depth, so there are no circles
  std::uint32_t children = 0;
  std::uint32_t pins = 0;  ///< (session, lookup) pairs that hold it
  Ref replicas = kNoRef;   ///< the first; they are chained
  std::uint16_t part = 0;
  std::uint8_t priority = 0;  ///< higher stays longer
  bool marked : 1 = false;    ///< seen already, by whoever goes through a list of entries
  bool degraded : 1 =
      false;  ///< it has fewer replicas than are wanted; ReplicaWatch's, like the next three
  bool queued : 1 = false;   ///< waits to be copied
  bool copying : 1 = false;  ///< a copy is under way
  bool thin : 1 = false;     ///< the policy has let a replica go: fewer are enough

  [[nodiscard]] bool in_use() const noexcept { return space != kNoSpace; }
  [[nodiscard]] BlockName name() const noexcept { return {key, space, era, part}; }
};

/// Where a replica stands with the eviction policy.
enum class Standing : std::uint8_t {
  held,    ///< pinned: no candidate
  listed,  ///< a candidate, in order of use
  parked,  ///< would be next, but has children: comes back when the last of them goes
};

/// A complete copy of one part of a block on a node.
struct Replica {
  Generation generation;
  Checksum checksum;
  Ref entry = kNoRef;  ///< kNoRef: the record is not in use
  Ref next = kNoRef;   ///< of the same entry
  SlotId slot;
  std::uint32_t length = 0;  ///< bytes
  Ref colder = kNoRef;       ///< neighbours in the policy's list
  Ref warmer = kNoRef;
  std::uint32_t shelf = 0;  ///< the policy's: node, size class and priority
  NodeIndex node = 0;
  Tier tier = Tier::host;
  Standing standing : 4 = Standing::held;
  bool sound : 1 = true;  ///< false: found corrupt; in no answer, goes when unpinned

  [[nodiscard]] bool in_use() const noexcept { return entry != kNoRef; }
};

static_assert(sizeof(Entry) == 48, "an entry has grown: every block pays for it");
static_assert(sizeof(Replica) == 56, "a replica has grown: every block pays for it");
/// An index spends 5 to 6 bytes a record, and up to 11 while it grows: the old table is there
/// until the last place has been moved. There are two indices.
inline constexpr std::size_t kIndexShareBytes = 11;
inline constexpr std::size_t kMaxBlockBytes =
    sizeof(Entry) + sizeof(Replica) + 2 * kIndexShareBytes;
static_assert(kMaxBlockBytes <= 128, "a block with one replica costs at most 128 bytes");

struct Records {
  Slab<Entry> entries;
  Slab<Replica> replicas;
};

}  // namespace membrain
