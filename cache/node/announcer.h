// Announcer: tells one shard of every sealed slot of its range, once on each connection.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "cache/node/door.h"
#include "cache/node/sides.h"
#include "protocol/messages.h"
#include "protocol/shard_map.h"

namespace membrain {

/// What there is to announce.
class SlotList {
 public:
  /// slots looked at in one call of `list`
  static constexpr std::size_t kMostLooked = 8192;

  /// Up to `most` sealed slots of `range` at or behind `from`, in the order of ids; `from` moves
  /// behind what was looked at. True if these were the last.
  virtual bool list(SlotId& from, std::size_t most, const KeyRange& range,
                    std::vector<wire::SlotEntry>& into) = 0;
  /// The whole list of that range is on its way to the shard.
  virtual void all_listed(const KeyRange& range) = 0;
  /// Of the block that is, or was, sealed there. None if that slot is not in use in that
  /// generation, or is being filled.
  [[nodiscard]] virtual std::optional<BlockKey> key_of(const wire::SlotRef& at) const = 0;

 protected:
  ~SlotList() = default;
};

/// One connection to a shard, from its acceptance to its loss. All sealed slots of the shard's
/// range are reported in portions, in the order of their ids. A slot that is sealed meanwhile is
/// published if the report has passed it already and is left to the report otherwise; with no
/// connection it waits for the next report. So that list is the only one of what there is to tell.
///
/// Threads  The data loop's.
class Announcer {
 public:
  Announcer(LinkId link, const LinkTerm& term) noexcept
      : link_(link), epoch_(term.epoch), range_(term.range) {}

  [[nodiscard]] const LinkId& link() const noexcept { return link_; }
  [[nodiscard]] Epoch epoch() const noexcept { return epoch_; }
  [[nodiscard]] const KeyRange& range() const noexcept { return range_; }
  /// All that was sealed has been handed over; what is sealed now is published at once.
  [[nodiscard]] bool live() const noexcept { return reported_; }
  /// What is sealed in that slot now would be published at once, not reported later.
  [[nodiscard]] bool passed(SlotId slot) const noexcept { return reported_ || slot < next_; }

  void give_portion(SlotList& slots, const Door<ShardSide>& shards);

 private:
  LinkId link_;
  Epoch epoch_;
  KeyRange range_;
  bool reported_ = false;
  SlotId next_{};  ///< slots below it have been reported
};

}  // namespace membrain
