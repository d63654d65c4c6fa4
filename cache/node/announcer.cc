#include "cache/node/announcer.h"

#include <utility>

#include "base/log.h"

namespace membrain {

void Announcer::give_portion(SlotList& slots, const Door<ShardSide>& shards) {
  if (reported_) return;
  std::vector<wire::SlotEntry> entries;
  const bool last = slots.list(next_, wire::kMaxPublishItems, range_, entries);
  if (last) {
    reported_ = true;
    slots.all_listed(range_);
  }
  const Result<> posted =
      shards.post([link = link_, last, entries = std::move(entries)](ShardSide& side) mutable {
        side.portion(link, std::move(entries), last);
      });
  if (!posted) log(LogLevel::warn, "node: the control loop's inbox is full; a message was dropped");
}

}  // namespace membrain
