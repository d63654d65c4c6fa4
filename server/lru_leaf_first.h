// The policy of first choice: least recently used first, leaves before what they hang on.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "server/eviction_policy.h"

namespace membrain {

/// Lists in order of last use for each (node, size class, priority); lower priorities go first.
///
/// A candidate whose block has children on this shard steps aside ("parked") when its turn comes,
/// and is first in line again when the last child has gone: a prompt goes from its end to its
/// beginning. Only a class that has nothing but parked ones gives one of these: a gap in a prompt
/// is better than a node that can take nothing more, because its prompts' ends sit on other nodes.
///
/// Cost  O(1) amortised: a replica is parked at most once for each time that it is released or its
///       block becomes a leaf.
class LruLeafFirst final : public EvictionPolicy {
 public:
  explicit LruLeafFirst(Records& records) noexcept : records_(records) {}

  void add(Ref replica, std::uint32_t slot_bytes) override;
  void release(Ref replica) override;
  void hold(Ref replica) override;
  void childless(Ref replica) override;
  [[nodiscard]] Ref victim(NodeIndex node, std::uint32_t slot_bytes) override;
  [[nodiscard]] std::uint32_t slot_bytes(Ref replica) const noexcept override;
  [[nodiscard]] const char* check_lists() const override;

 private:
  struct List {
    Ref coldest = kNoRef;
    Ref warmest = kNoRef;
    std::size_t count = 0;
  };
  struct Shelf {
    NodeIndex node = 0;
    std::uint8_t priority = 0;
    std::uint32_t slot_bytes = 0;
    List listed;
    List parked;
  };
  using ClassKey = std::uint64_t;
  [[nodiscard]] static ClassKey class_key(NodeIndex node, std::uint32_t slot_bytes) noexcept {
    return ClassKey{node} << 32 | slot_bytes;
  }
  [[nodiscard]] std::uint32_t shelf_of(NodeIndex node, std::uint32_t slot_bytes,
                                       std::uint8_t priority);
  [[nodiscard]] List& list_of(const Replica& replica) noexcept;
  [[nodiscard]] bool has_children(Ref replica) const noexcept;
  [[nodiscard]] Ref next_leaf(Shelf& shelf);
  [[nodiscard]] const char* check_list(const List& list, std::uint32_t shelf,
                                       Standing standing) const;
  void push_warm(Ref replica, Standing standing);
  void push_cold(Ref replica);
  void take_out(Ref replica) noexcept;

  Records& records_;
  std::vector<Shelf> shelves_;
  /// shelves of a class, lowest priority first
  std::unordered_map<ClassKey, std::vector<std::uint32_t>> classes_;
};

}  // namespace membrain
