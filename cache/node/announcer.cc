#include "cache/node/announcer.h"

#include <utility>

#include "base/log.h"

namespace membrain {

namespace {

void note(const Result<>& posted) {
  if (!posted) log(LogLevel::warn, "node: the control loop's inbox is full; a message was dropped");
}

}  // namespace

void Announcer::accepted(LinkNumber link) {
  link_ = link;
  reported_ = false;
  next_ = {};
}

void Announcer::lost(LinkNumber link) {
  if (current(link)) link_ = 0;
}

void Announcer::give_portion(LinkNumber link) {
  if (!current(link) || reported_) return;
  std::vector<wire::SlotEntry> entries;
  const bool last = slots_.list(next_, wire::kMaxPublishItems, entries);
  if (last) {
    reported_ = true;
    slots_.all_listed();
  }
  note(shard_.post([link, last, entries = std::move(entries)](ShardSide& shard) mutable {
    shard.portion(link, std::move(entries), last);
  }));
}

void Announcer::sealed(std::vector<wire::SlotEntry> entries) {
  std::erase_if(entries, [this](const wire::SlotEntry& entry) { return !passed(entry.slot); });
  if (entries.empty()) return;
  note(shard_.post([link = link_, entries = std::move(entries)](ShardSide& shard) mutable {
    shard.publish(link, std::move(entries));
  }));
}

void Announcer::corrupt(const wire::SlotRef& at) {
  if (link_ == 0) return;
  note(shard_.post([link = link_, at](ShardSide& shard) { shard.corrupt(link, at); }));
}

void Announcer::freed(LinkNumber link, std::vector<wire::SlotRef> slots) {
  note(shard_.post([link, slots = std::move(slots)](ShardSide& shard) mutable {
    shard.freed(link, std::move(slots));
  }));
}

bool Announcer::need(std::vector<Need> needs) {
  if (!live()) return false;
  const Result<> posted =
      shard_.post([link = link_, needs = std::move(needs)](ShardSide& shard) mutable {
        shard.need(link, std::move(needs));
      });
  note(posted);
  return posted.has_value();
}

}  // namespace membrain
