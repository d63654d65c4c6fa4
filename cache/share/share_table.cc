#include "cache/share/share_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace membrain {

using wire::ItemStatus;
using wire::SlotRef;

Result<wire::SlotEntry> ShareTable::add(SharedBlock block) {
  if (index_.size() >= kMaxBlocks) return fail(Errc::out_of_capacity, "too many shared blocks");
  const Name name{block.layout.get(), block.id};
  if (index_.contains(name)) {
    return fail(Errc::invalid_argument, "that block is shared already: take it back first");
  }
  if (unused_.empty()) {
    unused_.push_back(static_cast<std::uint32_t>(records_.size()));
    records_.emplace_back();
  }
  const std::uint32_t slot = unused_.back();
  unused_.pop_back();
  index_.emplace(name, slot);
  Record& record = records_[slot];
  record.block = std::move(block);
  record.generation = Generation{++last_generation_};
  record.state = State::shared;
  ++shared_;
  return entry_of(SlotId{slot}, record);
}

void ShareTable::told(SlotId slot) noexcept {
  records_[slot.value].shard = Shard::asked;
}

wire::SlotEntry ShareTable::entry_of(SlotId slot, const Record& record) {
  wire::SlotEntry entry;
  entry.meta = record.block.meta;
  entry.slot = slot;
  entry.generation = record.generation;
  entry.length = entry.slot_bytes = record.block.length;
  entry.checksum = record.block.checksum;
  return entry;
}

ShareTable::Record* ShareTable::record_of(const SlotRef& at) noexcept {
  if (at.slot.value >= records_.size()) return nullptr;
  Record& record = records_[at.slot.value];
  const bool same = record.state != State::unused && record.generation == at.generation;
  return same ? &record : nullptr;
}

const SharedBlock* ShareTable::find(const SlotRef& at) const noexcept {
  const Record* const record = record_of(at);
  return record != nullptr && record->state == State::shared ? &record->block : nullptr;
}

std::optional<BlockKey> ShareTable::key_of(const SlotRef& at) const {
  const Record* const record = record_of(at);
  return record == nullptr ? std::nullopt : std::optional(record->block.meta.key);
}

// ---- reading

ItemStatus ShareTable::open_read(const wire::FetchItem& item, const SharedBlock*& block) {
  const SharedBlock* const found = find({item.slot, item.generation});
  if (found == nullptr) return ItemStatus::stale;
  const wire::BlockMeta& meta = found->meta;
  const bool named = meta.space == item.space && meta.key == item.key && meta.part == item.part;
  const std::uint64_t end = std::uint64_t{item.offset} + item.length;
  if (!named || item.length == 0 || end > found->length) return ItemStatus::not_found;
  return open_read(SlotRef{item.slot, item.generation}, block);
}

ItemStatus ShareTable::open_read(const SlotRef& at, const SharedBlock*& block) {
  Record* const record = record_of(at);
  if (record == nullptr || record->state != State::shared) return ItemStatus::stale;
  ++record->reads;
  block = &record->block;
  return ItemStatus::ok;
}

void ShareTable::close_read(const SlotRef& at) {
  Record* const record = record_of(at);
  check(record != nullptr && record->reads > 0, "a read of a shared block ended twice");
  --record->reads;
  free_if_over(at.slot.value);
}

// ---- taking back

void ShareTable::end_sharing(Record& record) noexcept {
  if (std::exchange(record.state, State::taken_back) == State::shared) --shared_;
}

void ShareTable::end(std::uint32_t slot, std::vector<KeyedSlot>& known) {
  Record& record = records_[slot];
  end_sharing(record);
  if (record.shard == Shard::aware) {
    known.push_back({record.block.meta.key, ref_of(slot)});
    record.shard = Shard::unaware;
  }
  free_if_over(slot);
}

void ShareTable::free_if_over(std::uint32_t slot) {
  Record& record = records_[slot];
  const bool over = record.state == State::taken_back && record.reads == 0;
  if (!over || record.shard == Shard::asked) return;
  index_.erase(Name{record.block.layout.get(), record.block.id});
  record = Record{};
  unused_.push_back(slot);
}

std::vector<KeyedSlot> ShareTable::take_back(const LayoutGeometry& layout,
                                             std::span<const std::uint32_t> ids) {
  std::vector<KeyedSlot> known;
  for (const std::uint32_t id : ids) {
    const auto found = index_.find(Name{&layout, id});
    if (found != index_.end()) end(found->second, known);
  }
  return known;
}

std::vector<KeyedSlot> ShareTable::take_back_all() {
  std::vector<KeyedSlot> known;
  for (std::uint32_t slot = 0; slot < records_.size(); ++slot) {
    if (records_[slot].state != State::unused) end(slot, known);
  }
  return known;
}

bool ShareTable::quiet(const LayoutGeometry& layout,
                       std::span<const std::uint32_t> ids) const noexcept {
  return std::all_of(ids.begin(), ids.end(), [&](std::uint32_t id) {
    const auto found = index_.find(Name{&layout, id});
    return found == index_.end() || records_[found->second].reads == 0;
  });
}

// ---- the shard's word

bool ShareTable::settle(const SlotRef& at, ItemStatus verdict) {
  Record* const record = record_of(at);
  if (record == nullptr || record->shard != Shard::asked) return false;
  const bool taken_back = record->state == State::taken_back;
  const bool knows = verdict == ItemStatus::ok;
  record->shard = knows && !taken_back ? Shard::aware : Shard::unaware;
  if (!knows) end_sharing(*record);
  free_if_over(at.slot.value);
  return knows && taken_back;
}

void ShareTable::drop(const SlotRef& at) {
  Record* const record = record_of(at);
  if (record == nullptr) return;
  record->shard = Shard::unaware;
  end_sharing(*record);
  free_if_over(at.slot.value);
}

void ShareTable::unlinked(const KeyRange& range) {
  for (std::uint32_t slot = 0; slot < records_.size(); ++slot) {
    if (!range.has(records_[slot].block.meta.key)) continue;
    records_[slot].shard = Shard::unaware;
    free_if_over(slot);
  }
}

bool ShareTable::list(SlotId& from, std::size_t most, const KeyRange& range,
                      std::vector<wire::SlotEntry>& into) {
  std::size_t looked = 0;
  for (; from.value < records_.size(); ++from.value) {
    Record& record = records_[from.value];
    if (looked++ >= kMostLooked) return false;
    if (record.state != State::shared || !range.has(record.block.meta.key)) continue;
    if (into.size() >= most) return false;
    into.push_back(entry_of(from, record));
    record.shard = Shard::asked;
  }
  return true;
}

}  // namespace membrain
