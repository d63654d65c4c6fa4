// Numbers that must not be mixed up have types of their own.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace membrain {

/// A distinct integer type: `Id<struct NodeTag, std::uint32_t>`. Zero means "none".
template <class Tag, class Int>
struct Id {
  using Value = Int;
  Int value = 0;

  constexpr explicit operator bool() const noexcept { return value != 0; }
  constexpr auto operator<=>(const Id&) const = default;
};

/// a node, for as long as its arena lives
using NodeId = Id<struct NodeTag, std::uint32_t>;
using Incarnation = Id<struct IncarnationTag, std::uint32_t>;  ///< one life of a node's process
/// offset in the arena / 4096 (0 is a slot)
using SlotId = Id<struct SlotTag, std::uint32_t>;
/// one use of a slot; never reused in an arena
using Generation = Id<struct GenerationTag, std::uint64_t>;
/// first 8 bytes of the namespace digest
using NamespaceId = Id<struct NamespaceTag, std::uint64_t>;
/// a namespace's life between two clears
using Era = Id<struct EraTag, std::uint32_t>;
using Epoch = Id<struct EpochTag, std::uint64_t>;        ///< one term of a shard's leader
using SessionId = Id<struct SessionTag, std::uint64_t>;  ///< one client's life with one shard
/// one lookup of a session; never repeats
using LookupId = Id<struct LookupTag, std::uint64_t>;
/// a writable mapping of an arena; random, so not guessable
using WriterId = Id<struct WriterTag, std::uint64_t>;
using OpId = Id<struct OpTag, std::uint64_t>;        ///< one request on a connection
using ShardId = Id<struct ShardTag, std::uint32_t>;  ///< index of a shard (0 is a shard)

/// 128 bits that name a block inside a namespace; keyed, so not guessable across tenants. Zero
/// means "none".
struct BlockKey {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  constexpr explicit operator bool() const noexcept { return (low | high) != 0; }
  constexpr auto operator<=>(const BlockKey&) const = default;
};

/// XXH3-128 of a block's bytes.
struct Checksum {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  constexpr bool operator==(const Checksum&) const = default;
};

/// What kind of memory a replica lies in: faster ones first.
enum class Tier : std::uint8_t {
  host,    ///< a node's arena
  device,  ///< a GPU of an engine that lends it: it may go at any time, and no pin holds it
};
inline constexpr Tier kLastTier = Tier::device;

/// One replica on the wire and in a reader's hand: enough to fetch it and to know that it was the
/// right one.
struct Location {
  NodeId node;
  Incarnation incarnation;
  SlotId slot;
  std::uint32_t length = 0;  ///< bytes of the whole block part
  Generation generation;
  Checksum checksum;
  bool operator==(const Location&) const = default;
};

/// 16 bytes of a message authentication code (HMAC-SHA-256, truncated).
using MacTag = std::array<std::byte, 16>;

}  // namespace membrain

template <class Tag, class Int>
struct std::hash<membrain::Id<Tag, Int>> {
  std::size_t operator()(const membrain::Id<Tag, Int>& id) const noexcept {
    return std::hash<Int>{}(id.value);
  }
};
template <>
struct std::hash<membrain::BlockKey> {
  /// A key is already a keyed hash: its low half is uniform.
  std::size_t operator()(const membrain::BlockKey& key) const noexcept { return key.low; }
};
