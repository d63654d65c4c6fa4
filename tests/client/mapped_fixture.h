// An arena as its node writes it, mapped by a client.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "base/checksum.h"
#include "cache/client/mapped_arena.h"
#include "cache/client/mapped_nodes.h"
#include "cache/client/match_state.h"
#include "cache/node/arena.h"

namespace membrain::mapped_test {

inline constexpr NodeId kNode{7};
inline constexpr NamespaceId kSpace{5};
inline constexpr std::uint64_t kCapacity = 1 << 20;

inline std::vector<std::byte> content(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 37 + seed * 101);
  return bytes;
}

/// An arena as its node writes it, and a match of what lies there.
class MappedTest : public ::testing::Test {
 protected:
  MappedTest() : node_(Arena::anonymous(kCapacity, kNode).value()), life_(node_->begin_life()) {
    mapped_ = MappedArena::over(node_->mapping(), nullptr, kNode, life_).value();
    set_ = std::make_shared<ArenaSet>();
    set_->add(mapped_);
    match_ = std::make_shared<Match::State>();
    match_->space = kSpace;
    match_->first = {0};
  }

  /// Seals a block at slot `slot` of the arena; `block` of the match.
  Location keep(std::uint32_t slot, const std::vector<std::byte>& bytes) {
    Location at;
    at.node = kNode;
    at.incarnation = life_;
    at.slot = SlotId{slot};
    at.length = static_cast<std::uint32_t>(bytes.size());
    at.generation = node_->next_generation();
    at.checksum = checksum(bytes);
    std::memcpy(node_->memory(at.slot, at.length).data(), bytes.data(), bytes.size());
    SealContent seal;
    seal.entry.meta.space = kSpace;
    seal.entry.meta.key = key_of(slot);
    seal.entry.slot = at.slot;
    seal.entry.generation = at.generation;
    seal.entry.length = at.length;
    seal.entry.checksum = at.checksum;
    write_seal(node_->seal(at.slot), seal);
    return at;
  }
  /// The match's next block has these replicas.
  void add_block(const BlockKey& key, const std::vector<Location>& replicas) {
    match_->keys.push_back(key);
    match_->there.push_back(!replicas.empty());
    for (const Location& at : replicas) match_->replicas.push_back({at, Tier::host});
    match_->first.push_back(static_cast<std::uint32_t>(match_->replicas.size()));
  }
  [[nodiscard]] static BlockKey key_of(std::uint32_t slot) { return {slot + 1, 99}; }
  [[nodiscard]] static BlockPart name_of(std::uint32_t slot) { return {kSpace, key_of(slot), 0}; }
  /// Copies a part whole.
  [[nodiscard]] bool copies(const BlockPart& name, const Location& at, bool sum = true) {
    into_.assign(at.length, std::byte{0});
    const std::vector<Piece> pieces = {{into_.data(), into_.size()}};
    return copy_part(*mapped_, name, at, 0, Place(std::span<const Piece>(pieces)), sum);
  }

  std::unique_ptr<Arena> node_;
  Incarnation life_;
  std::shared_ptr<const MappedArena> mapped_;
  std::shared_ptr<ArenaSet> set_;
  std::shared_ptr<Match::State> match_;
  std::vector<std::byte> into_;
};

}  // namespace membrain::mapped_test
