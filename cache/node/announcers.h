// Announcers: what is said of a slot goes to the shard that has its key.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cache/node/announcer.h"
#include "cache/node/door.h"
#include "cache/node/node_status.h"
#include "cache/node/sides.h"
#include "protocol/messages.h"

namespace membrain {

/// A slot and the key of the block in it.
struct KeyedSlot {
  BlockKey key;
  wire::SlotRef at;
  bool operator==(const KeyedSlot&) const = default;
};

/// An announcer for every shard that has taken this node in and is not lost. Their ranges never
/// overlap: the shard that was heard last is right.
///
/// Threads  The data loop's. Bound: wire::kMaxShards announcers, looked through.
class Announcers {
 public:
  explicit Announcers(SlotList& slots) noexcept : slots_(slots) {}
  void open(Door<ShardSide> shards) { shards_ = std::move(shards); }

  /// Earlier connections to this shard, or to shards whose keys it has now, are over: their ranges.
  std::vector<KeyRange> accepted(LinkId link, const LinkTerm& term);
  void lost(LinkId link);

  /// Null if that connection is over.
  [[nodiscard]] const Announcer* find(LinkId link) const noexcept;
  /// Null if the shard of this key is away.
  [[nodiscard]] const Announcer* of(const BlockKey& key) const noexcept;
  [[nodiscard]] std::span<const Announcer> all() const noexcept { return announcers_; }
  /// What is sealed in that slot now would be published at once, not reported later.
  [[nodiscard]] bool passed(const BlockKey& key, SlotId slot) const noexcept;

  void give_portion(LinkId link);
  void sealed(std::vector<wire::SlotEntry> entries);
  void corrupt(const wire::SlotRef& at);
  /// Those of `slots` that are to be freed now: a shard is obeyed only on its present link, in its
  /// epoch, and where its own keys are, or nothing is. What is fenced off is counted.
  [[nodiscard]] std::vector<wire::SlotRef> obeyed(LinkId link, Epoch epoch,
                                                  const std::vector<wire::SlotRef>& slots,
                                                  NodeCounters& counters) const;
  void freed(LinkId link, std::vector<wire::SlotRef> slots);
  /// These are free, unasked.
  void gone(std::vector<KeyedSlot> slots);
  void copied(LinkId link, std::vector<wire::CopyEnd> ends);
  /// False if that cannot be asked now.
  bool need(LinkId link, std::vector<Need> needs);

 private:
  SlotList& slots_;
  Door<ShardSide> shards_;
  std::vector<Announcer> announcers_;
};

}  // namespace membrain
