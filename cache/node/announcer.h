// Announcer: tells the shard of every sealed slot, once on each connection.
#pragma once

#include <cstddef>
#include <vector>

#include "cache/node/door.h"
#include "cache/node/sides.h"
#include "protocol/messages.h"

namespace membrain {

/// What there is to announce.
class SlotList {
 public:
  /// Up to `most` sealed slots at or behind `from`, in the order of ids; `from` moves behind them.
  /// True if these were the last.
  virtual bool list(SlotId& from, std::size_t most, std::vector<wire::SlotEntry>& into) = 0;
  /// The whole list is on its way to the shard.
  virtual void all_listed() = 0;

 protected:
  ~SlotList() = default;
};

/// After every acceptance by the shard all sealed slots are reported in portions, in the order of
/// their ids. A slot that is sealed meanwhile is published if the report has passed it already and
/// is left to the report otherwise; with no connection it waits for the next report. So that list
/// is the only one of what there is to tell.
///
/// Threads  The data loop's.
class Announcer {
 public:
  explicit Announcer(SlotList& slots) noexcept : slots_(slots) {}
  void open(Door<ShardSide> shard) { shard_ = std::move(shard); }

  void accepted(LinkNumber link);
  void lost(LinkNumber link);
  [[nodiscard]] bool current(LinkNumber link) const noexcept { return link != 0 && link == link_; }
  [[nodiscard]] LinkNumber link() const noexcept { return link_; }  ///< 0: not connected
  /// All that was sealed has been handed over; what is sealed now is published at once.
  [[nodiscard]] bool live() const noexcept { return link_ != 0 && reported_; }

  /// What is sealed in that slot now would be published at once, not reported later.
  [[nodiscard]] bool passed(SlotId slot) const noexcept {
    return link_ != 0 && (reported_ || slot < next_);
  }

  void give_portion(LinkNumber link);
  void sealed(std::vector<wire::SlotEntry> entries);
  void corrupt(const wire::SlotRef& at);
  void freed(LinkNumber link, std::vector<wire::SlotRef> slots);
  /// False if there is nobody to ask.
  bool need(std::vector<Need> needs);

 private:
  SlotList& slots_;
  Door<ShardSide> shard_;
  LinkNumber link_ = 0;
  bool reported_ = false;
  SlotId next_{};  ///< slots below it have been reported
};

}  // namespace membrain
