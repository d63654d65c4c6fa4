// MappedArena: a node's arena as a process of its host sees it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/ids.h"
#include "cache/memory/place.h"
#include "membrain/result.h"
#include "protocol/arena_header.h"
#include "protocol/seal.h"
#include "transport/descriptor.h"

namespace membrain {

/// What a block part is called, besides where it lies.
struct BlockPart {
  NamespaceId space;
  BlockKey key;
  std::uint16_t part = 0;
};

/// One life of one node's arena, mapped for reading. The node goes on writing into it: a read is
/// `holds`, the bytes, and then `still_holds`. If both said yes, the bytes are what the location
/// names; if not, nothing of what was read may be used, and the node is to be asked.
///
/// Ownership  Keeps the mapping for as long as anybody has it.
/// Threads    Immutable: any thread.
/// Cost       A look at a seal is one line of memory. Pages are mapped as they are touched.
class MappedArena {
 public:
  /// Maps a file that a node has handed out. `corrupt` if it is not the arena of this life of this
  /// node; `out_of_capacity` without address space.
  static Result<std::shared_ptr<const MappedArena>> map(const Descriptor& file, NodeId node,
                                                        Incarnation life);
  /// The same of memory that is there already; `owner` keeps it.
  static Result<std::shared_ptr<const MappedArena>> over(std::span<const std::byte> memory,
                                                         std::shared_ptr<const void> owner,
                                                         NodeId node, Incarnation life);

  [[nodiscard]] NodeId node() const noexcept { return node_; }
  [[nodiscard]] Incarnation life() const noexcept { return life_; }
  /// All that blocks lie in.
  [[nodiscard]] std::span<const std::byte> slots() const noexcept { return slots_; }

  /// Fetches the seal into the cache.
  void prefetch(const Location& at) const noexcept;
  /// This life's seal at that place is of this part, this generation and this length.
  [[nodiscard]] bool holds(const BlockPart& name, const Location& at) const noexcept;
  /// Nothing has changed since `holds` said yes.
  [[nodiscard]] bool still_holds(const Location& at) const noexcept;
  /// A range of a part that it `holds`.
  [[nodiscard]] std::span<const std::byte> bytes(const Location& at, std::uint32_t offset,
                                                 std::uint32_t length) const noexcept;

 private:
  MappedArena() = default;
  [[nodiscard]] bool inside(const Location& at) const noexcept;

  std::shared_ptr<const void> owner_;
  const ArenaHeader* header_ = nullptr;
  std::span<const Seal> seals_;
  std::span<const std::byte> slots_;
  NodeId node_;
  Incarnation life_;
};

/// Copies a range of a part to `into`, which is as long. `sum`: also hash what was delivered and
/// compare with the location's checksum (of the whole part). False: nothing of it may be used.
[[nodiscard]] bool copy_part(const MappedArena& arena, const BlockPart& name, const Location& at,
                             std::uint32_t offset, const Place& into, bool sum) noexcept;

}  // namespace membrain
