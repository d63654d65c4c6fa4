// Announcer: tells the shard of every sealed slot, once on each connection.
#pragma once

#include <cstddef>
#include <vector>

#include "cache/node/block_table.h"
#include "cache/node/door.h"
#include "cache/node/sides.h"
#include "protocol/messages.h"

namespace membrain {

/// After every acceptance by the shard all sealed slots are reported in portions, in the order of
/// their ids. A slot that is sealed meanwhile is published if the report has passed it already and
/// is left to the report otherwise; with no connection it waits for the next report. So the block
/// table is the only list of what there is to tell.
///
/// Threads  The data loop's.
class Announcer {
 public:
  explicit Announcer(BlockTable& table) noexcept : table_(table) {}
  void open(Door<ShardSide> shard) { shard_ = std::move(shard); }

  void accepted(LinkNumber link);
  void lost(LinkNumber link);
  [[nodiscard]] bool current(LinkNumber link) const noexcept { return link != 0 && link == link_; }
  [[nodiscard]] LinkNumber link() const noexcept { return link_; }  ///< 0: not connected
  /// All that was sealed has been handed over; what is sealed now is published at once.
  [[nodiscard]] bool live() const noexcept { return link_ != 0 && reported_; }

  void give_portion(LinkNumber link);
  void sealed(std::vector<wire::SlotEntry> entries);
  void corrupt(const wire::SlotRef& at);
  void freed(LinkNumber link, std::vector<wire::SlotRef> slots);
  /// False if there is nobody to ask.
  bool need(std::vector<Need> needs);

 private:
  BlockTable& table_;
  Door<ShardSide> shard_;
  LinkNumber link_ = 0;
  bool reported_ = false;
  SlotId next_{};  ///< slots below it have been reported
};

}  // namespace membrain
