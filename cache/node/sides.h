// What the two loops of a node say to each other. Every call is posted through a `Door`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/mac.h"
#include "cache/node/slot_pool.h"
#include "protocol/messages.h"

namespace membrain {

/// Counts the connections to the shard: what was said on an earlier one is void.
using LinkNumber = std::uint64_t;

/// The shard's word on a slot.
struct Verdict {
  wire::SlotRef at;
  wire::ItemStatus status = wire::ItemStatus::ok;
};

/// The data loop: has the slots. Called by the control loop.
class SlotSide {
 public:
  /// The shard took this node in; every sealed slot is to be reported anew.
  virtual void accepted(LinkNumber link, Epoch epoch, const Digest& grant_key) = 0;
  /// Asks for the next portion of the report: answered by `ShardSide::portion`.
  virtual void want_portion(LinkNumber link) = 0;
  /// What the shard says of slots that were reported or published.
  virtual void settled(LinkNumber link, const std::vector<Verdict>& verdicts) = 0;
  /// The shard wants these freed, in this epoch: answered by `ShardSide::freed`.
  virtual void free(LinkNumber link, Epoch epoch, const std::vector<wire::SlotRef>& slots) = 0;
  /// What was asked for by `ShardSide::need` has been answered, with so many slots.
  virtual void need_answered(std::size_t slots) = 0;
  virtual void lost(LinkNumber link) = 0;
  /// Drains and shuts its door: answered by `ShardSide::slots_quiet`.
  virtual void stop() = 0;

 protected:
  ~SlotSide() = default;
};

/// The control loop: speaks with the shard. Called by the data loop.
class ShardSide {
 public:
  /// What an earlier life left has been adopted: the node may register.
  virtual void adopted() = 0;
  virtual void portion(LinkNumber link, std::vector<wire::SlotEntry> entries, bool last) = 0;
  virtual void publish(LinkNumber link, std::vector<wire::SlotEntry> entries) = 0;
  virtual void need(LinkNumber link, std::vector<Need> needs) = 0;
  virtual void freed(LinkNumber link, std::vector<wire::SlotRef> slots) = 0;
  virtual void corrupt(LinkNumber link, wire::SlotRef at) = 0;
  virtual void slots_quiet() = 0;

 protected:
  ~ShardSide() = default;
};

}  // namespace membrain
