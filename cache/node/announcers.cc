#include "cache/node/announcers.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace membrain {

namespace {

bool overlap(const KeyRange& a, const KeyRange& b) noexcept {
  return a.first <= b.last && b.first <= a.last;
}

bool note(const Result<>& posted) {
  if (!posted) log(LogLevel::warn, "node: the control loop's inbox is full; a message was dropped");
  return posted.has_value();
}

}  // namespace

std::vector<KeyRange> Announcers::accepted(LinkId link, const LinkTerm& term) {
  std::vector<KeyRange> over;
  std::erase_if(announcers_, [&](const Announcer& known) {
    const bool ends = known.link().shard == link.shard || overlap(known.range(), term.range);
    if (ends) over.push_back(known.range());
    return ends;
  });
  announcers_.emplace_back(link, term);
  return over;
}

void Announcers::lost(LinkId link) {
  std::erase_if(announcers_, [&](const Announcer& known) { return known.link() == link; });
}

const Announcer* Announcers::find(LinkId link) const noexcept {
  const auto found = std::find_if(announcers_.begin(), announcers_.end(),
                                  [&](const Announcer& known) { return known.link() == link; });
  return found == announcers_.end() ? nullptr : &*found;
}

const Announcer* Announcers::of(const BlockKey& key) const noexcept {
  const auto found = std::find_if(announcers_.begin(), announcers_.end(),
                                  [&](const Announcer& known) { return known.range().has(key); });
  return found == announcers_.end() ? nullptr : &*found;
}

bool Announcers::passed(const BlockKey& key, SlotId slot) const noexcept {
  const Announcer* const shard = of(key);
  return shard != nullptr && shard->passed(slot);
}

void Announcers::give_portion(LinkId link) {
  for (Announcer& known : announcers_) {
    if (known.link() == link) known.give_portion(slots_, shards_);
  }
}

void Announcers::sealed(std::vector<wire::SlotEntry> entries) {
  for (const Announcer& known : announcers_) {
    std::vector<wire::SlotEntry> its;
    std::copy_if(entries.begin(), entries.end(), std::back_inserter(its),
                 [&](const wire::SlotEntry& entry) {
                   return known.range().has(entry.meta.key) && known.passed(entry.slot);
                 });
    if (its.empty()) continue;
    note(shards_.post([link = known.link(), its = std::move(its)](ShardSide& side) mutable {
      side.publish(link, std::move(its));
    }));
  }
}

void Announcers::corrupt(const wire::SlotRef& at) {
  const std::optional<BlockKey> key = slots_.key_of(at);
  const Announcer* const shard = key ? of(*key) : nullptr;
  if (shard == nullptr) return;
  note(shards_.post([link = shard->link(), at](ShardSide& side) { side.corrupt(link, at); }));
}

std::vector<wire::SlotRef> Announcers::obeyed(LinkId link, Epoch epoch,
                                              const std::vector<wire::SlotRef>& slots,
                                              NodeCounters& counters) const {
  std::vector<wire::SlotRef> its;
  const Announcer* const shard = find(link);
  if (shard != nullptr && shard->epoch() == epoch) {
    std::copy_if(slots.begin(), slots.end(), std::back_inserter(its), [&](const auto& at) {
      const std::optional<BlockKey> key = slots_.key_of(at);
      return !key || shard->range().has(*key);
    });
  }
  NodeCounters::add(counters.fenced_frees, slots.size() - its.size());
  return its;
}

void Announcers::freed(LinkId link, std::vector<wire::SlotRef> slots) {
  if (slots.empty()) return;
  note(shards_.post([link, slots = std::move(slots)](ShardSide& side) mutable {
    side.freed(link, std::move(slots));
  }));
}

void Announcers::gone(std::vector<KeyedSlot> slots) {
  for (const Announcer& known : announcers_) {
    std::vector<wire::SlotRef> its;
    for (const KeyedSlot& slot : slots) {
      if (!known.range().has(slot.key)) continue;
      its.push_back(slot.at);
      if (its.size() == wire::kMaxFreeItems) freed(known.link(), std::exchange(its, {}));
    }
    freed(known.link(), std::move(its));
  }
}

void Announcers::copied(LinkId link, std::vector<wire::CopyEnd> ends) {
  if (find(link) == nullptr) return;
  note(shards_.post([link, ends = std::move(ends)](ShardSide& side) mutable {
    side.copied(link, std::move(ends));
  }));
}

bool Announcers::need(LinkId link, std::vector<Need> needs) {
  return note(shards_.post([link, needs = std::move(needs)](ShardSide& side) mutable {
    side.need(link, std::move(needs));
  }));
}

}  // namespace membrain
