// The messages by which a shard has blocks copied from node to node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/codec.h"
#include "base/ids.h"
#include "protocol/frame.h"
#include "protocol/messages.h"

namespace membrain {
using CopyId = Id<struct CopyTag, std::uint64_t>;  ///< one copy that a shard asked for
}

namespace membrain::wire {

inline constexpr std::size_t kMaxCopyItems = 64;  ///< of one CopyBlocks or CopiesEnded

/// A block part to copy: what it is, and where the source has it.
struct CopyItem {
  CopyId copy;
  BlockMeta meta;
  SlotRef at;
  std::uint32_t length = 0;  ///< bytes
  Checksum checksum;
};

/// Tells a node to fetch blocks from another one into slots of its own choice, and to publish them.
/// Comes unasked, and again until the node has answered `CopiesEnded`: one that it works on, or has
/// ended, changes nothing. Obeyed, like FreeSlots, only in the node's present life and epoch.
struct CopyBlocks {
  static constexpr Type kType = Type::copy_blocks;
  NodeId node;
  Incarnation incarnation;
  Epoch epoch;
  SessionProof proof;             ///< to show to the source
  std::uint32_t deadline_ms = 0;  ///< from now
  NodeId source;
  std::string address;  ///< of the source's data loop
  std::vector<CopyItem> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct CopyEnd {
  CopyId copy;
  /// ok, duplicate (it was there already), full (later, perhaps), corrupt (what came is not what
  /// the shard named), another (not now, not from there)
  ItemStatus status = ItemStatus::ok;
};

/// What became of copies. Told again until it is answered.
struct CopiesEnded {
  static constexpr Type kType = Type::copies_ended;
  NodeId node;
  Incarnation incarnation;
  std::vector<CopyEnd> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};
using CopiesNoted = Empty<Type::copies_noted>;

/// The node is about to go: what it alone has is to be copied to others, and it gets nothing new.
/// Told again and again, to hear how much is left; lasts until the node registers anew.
struct Leave {
  static constexpr Type kType = Type::leave;
  NodeId node;
  Incarnation incarnation;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct Leaving {
  static constexpr Type kType = Type::leaving;
  static constexpr std::uint64_t kNotCounted = UINT64_MAX;  ///< not known yet
  std::uint64_t alone = kNotCounted;  ///< block parts of it that only nodes which leave have
  void encode(Writer& out) const;
  void decode(Reader& in);
};

}  // namespace membrain::wire
