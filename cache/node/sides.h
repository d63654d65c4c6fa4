// What the two loops of a node say to each other. Every call is posted through a `Door`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/mac.h"
#include "cache/node/slot_pool.h"
#include "protocol/copy_messages.h"
#include "protocol/messages.h"
#include "protocol/shard_map.h"

namespace membrain {

/// One connection to one shard: what was said on an earlier one is void.
struct LinkId {
  ShardId shard;
  std::uint64_t number = 0;  ///< never the same twice in a node's life
  bool operator==(const LinkId&) const = default;
};

/// As what a shard took this node in.
struct LinkTerm {
  Epoch epoch;
  Digest grant_key{};
  KeyRange range;  ///< of the keys that are this shard's while the link lasts
};

/// A shard's word on a slot.
struct Verdict {
  wire::SlotRef at;
  wire::ItemStatus status = wire::ItemStatus::ok;
};

/// The data loop: has the slots. Called by the control loop.
class SlotSide {
 public:
  /// These are the shards that there are now.
  virtual void mapped(const std::vector<ShardId>& shards) = 0;
  /// A shard took this node in; every sealed slot of its range is to be reported anew.
  virtual void accepted(LinkId link, const LinkTerm& term) = 0;
  /// Asks for the next portion of the report: answered by `ShardSide::portion`.
  virtual void want_portion(LinkId link) = 0;
  /// What its shard says of slots that were reported or published.
  virtual void settled(LinkId link, const std::vector<Verdict>& verdicts) = 0;
  /// Its shard wants these freed, in this epoch: answered by `ShardSide::freed`.
  virtual void free(LinkId link, Epoch epoch, const std::vector<wire::SlotRef>& slots) = 0;
  /// What was asked for by `ShardSide::need` has been answered, with so many slots.
  virtual void need_answered(LinkId link, std::size_t slots) = 0;
  /// Its shard wants these copied here: answered by `ShardSide::copied`.
  virtual void copy(LinkId link, wire::CopyBlocks order) = 0;
  virtual void lost(LinkId link) = 0;
  /// The node is about to go: takes no blocks any more, and serves those that it has.
  virtual void take_no_more() = 0;
  /// Drains and shuts its door: answered by `ShardSide::slots_quiet`.
  virtual void stop() = 0;

 protected:
  ~SlotSide() = default;
};

/// The control loop: speaks with the shards. Called by the data loop.
class ShardSide {
 public:
  /// What an earlier life left has been adopted: the node may register.
  virtual void adopted() = 0;
  virtual void portion(LinkId link, std::vector<wire::SlotEntry> entries, bool last) = 0;
  virtual void publish(LinkId link, std::vector<wire::SlotEntry> entries) = 0;
  virtual void need(LinkId link, std::vector<Need> needs) = 0;
  virtual void freed(LinkId link, std::vector<wire::SlotRef> slots) = 0;
  virtual void corrupt(LinkId link, wire::SlotRef at) = 0;
  virtual void copied(LinkId link, std::vector<wire::CopyEnd> ends) = 0;
  virtual void slots_quiet() = 0;

 protected:
  ~ShardSide() = default;
};

}  // namespace membrain
