// The messages by which the members of a group pass blocks on to each other, down a tree.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/codec.h"
#include "base/ids.h"
#include "base/mac.h"
#include "protocol/frame.h"
#include "protocol/messages.h"

namespace membrain::wire {

inline constexpr std::size_t kMaxGroupMembers = 1024;
inline constexpr std::size_t kMaxGroupBlocks = 65536;  ///< of one replication
inline constexpr std::size_t kMaxChunkBlocks = 128;    ///< of one GroupBlocks

/// The first message on a connection between members: who calls. Not answered: who is not believed
/// is disconnected. `proof` = HMAC(tenant key, "membrain group" | group | rank | size | binding).
struct GroupHello {
  static constexpr Type kType = Type::group_hello;
  std::string group;
  std::uint32_t rank = 0;
  std::uint32_t size = 0;  ///< members
  Digest proof{};
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// How blocks travel: from member to member, or along a tree that doubles with every step.
enum class TreeShape : std::uint8_t { chain, binomial };

/// What is about to come. Every member calls for it by itself; all must mean the same.
struct GroupOffer {
  static constexpr Type kType = Type::group_offer;
  std::uint64_t sequence = 0;  ///< the group's replications, counted by each member
  std::uint32_t root = 0;
  TreeShape shape = TreeShape::chain;
  std::uint32_t blocks = 0;
  std::uint32_t chunk_blocks = 0;  ///< of every GroupBlocks but the last
  std::uint64_t block_bytes = 0;
  Checksum names;  ///< XXH3-128 of the blocks' hashes
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct GroupBlock {
  ItemStatus status = ItemStatus::ok;
  Checksum checksum;  ///< if `ok`
};

/// Some blocks, in their order. The payload is the concatenation of the ok ones. Every block comes
/// once, to every member.
struct GroupBlocks {
  static constexpr Type kType = Type::group_blocks;
  std::uint64_t sequence = 0;
  std::uint32_t first = 0;
  std::vector<GroupBlock> blocks;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// Back up the tree: which blocks this member and all behind it have. At first, in answer to the
/// offer, without a bitmap: it has come, and may be sent blocks.
struct GroupDone {
  static constexpr Type kType = Type::group_done;
  std::uint64_t sequence = 0;
  std::vector<std::uint8_t> bitmap;  ///< bit i (of byte i/8, low first): block i
  void encode(Writer& out) const;
  void decode(Reader& in);
};

// ---- all at once, by another library than UCX (docs/adr/0024)

/// What members of a new communicator find each other by; all zeros: none.
using CollectiveId = std::array<std::byte, 128>;

/// The root to every member: shall we?
struct GroupPropose {
  static constexpr Type kType = Type::group_propose;
  std::uint64_t sequence = 0;
  std::uint32_t root = 0;
  std::uint32_t blocks = 0;
  std::uint32_t chunk_blocks = 0;  ///< that go at once
  std::uint64_t block_bytes = 0;
  Checksum names;   ///< as in GroupOffer
  CollectiveId id;  ///< of the communicator that the root has already
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// What a member says to that, and later to `GroupGo`.
enum class GroupVote : std::uint8_t {
  cannot,
  can,   ///< with a new communicator
  has,   ///< the one that was named
  ended  ///< its part is over
};

struct GroupAnswer {
  static constexpr Type kType = Type::group_answer;
  std::uint64_t sequence = 0;
  GroupVote vote = GroupVote::cannot;
  std::vector<std::uint8_t> bitmap;  ///< of `ended`: bit i (of byte i/8, low first): it has block i
  void encode(Writer& out) const;
  void decode(Reader& in);
};

enum class GroupStep : std::uint8_t {
  begin,    ///< all call the library now
  give_up,  ///< it is of no use: the blocks come down the tree
  finish    ///< all have all
};

/// The root to every member.
struct GroupGo {
  static constexpr Type kType = Type::group_go;
  std::uint64_t sequence = 0;
  GroupStep step = GroupStep::begin;
  CollectiveId id{};            ///< of the communicator to use, for `begin`
  std::uint32_t budget_ms = 0;  ///< until a member gives up by itself
  void encode(Writer& out) const;
  void decode(Reader& in);
};

}  // namespace membrain::wire
