#include "cache/node/block_table.h"

#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

using wire::ItemStatus;
using wire::SlotRef;

BlockTable::BlockTable(Arena& arena, NodeCounters& counters)
    : arena_(arena), counters_(counters), pool_(arena.capacity_bytes(), arena.generations()) {
  count_space();
}

std::size_t BlockTable::NameHash::operator()(const Name& name) const noexcept {
  return name.key.low ^ (name.space.value * 0x9e3779b97f4a7c15ull) ^
         (std::uint64_t{name.part} << 48) ^ name.era.value;
}

BlockTable::Name BlockTable::name_of(const wire::BlockMeta& meta) noexcept {
  return {meta.space, meta.era, meta.key, meta.part};
}

BlockTable::Record* BlockTable::record_of(const SlotRef& at) {
  const auto found = records_.find(at.slot.value);
  const bool same = found != records_.end() && found->second.generation == at.generation;
  return same ? &found->second : nullptr;
}

Result<SlotClaim> BlockTable::claim(std::uint32_t length) {
  const Result<Slot> slot = pool_.allocate(length);
  if (!slot) return fail(slot.error());
  Record record;
  record.generation = slot->generation;
  record.length = length;
  records_.insert_or_assign(slot->id.value, record);
  count_space();
  return SlotClaim{*slot, arena_.memory(slot->id, length)};
}

BlockTable::Sealed BlockTable::seal(const SlotClaim& claim, const wire::BlockMeta& meta,
                                    const Checksum& sum) {
  const SlotRef at{claim.slot.id, claim.slot.generation};
  Record* record = record_of(at);
  check(record != nullptr && record->state == State::filling, "a slot was sealed unclaimed");
  if (const std::optional<Known> known = find(meta)) {
    release(at);
    return {known->at, false, known->published};
  }
  SealContent content;
  content.entry = {.meta = meta,
                   .slot = at.slot,
                   .generation = at.generation,
                   .length = record->length,
                   .slot_bytes = claim.slot.slot_bytes,
                   .checksum = sum};
  content.slab = claim.slot.slab;
  write_seal(arena_.seal(at.slot), content);
  record->state = State::sealed;
  record->key = meta.key;
  index_.emplace(name_of(meta), at.slot);
  return {at, true, false};
}

void BlockTable::abandon(const SlotClaim& claim) {
  const SlotRef at{claim.slot.id, claim.slot.generation};
  const Record* record = record_of(at);
  check(record != nullptr && record->state == State::filling, "no such claim");
  release(at);
}

void BlockTable::lend(const SlotClaim& claim, WriterId writer) {
  LentContent content;
  content.slot = claim.slot.id;
  content.generation = claim.slot.generation;
  content.length = static_cast<std::uint32_t>(claim.memory.size());
  content.slot_bytes = claim.slot.slot_bytes;
  content.slab = claim.slot.slab;
  content.writer = writer;
  write_lent(arena_.seal(content.slot), content);
}

Result<SlotClaim> BlockTable::adopt_lent(const LentContent& content) {
  if (content.length == 0 || content.length > content.slot_bytes) {
    return fail(Errc::corrupt, "a lent block larger than its slot");
  }
  const Slot slot{content.slot, content.generation, content.slot_bytes, content.slab};
  const Result<Slot> adopted = pool_.adopt(slot);
  if (!adopted) return fail(adopted.error());
  Record record;
  record.generation = content.generation;
  record.length = content.length;
  records_.insert_or_assign(content.slot.value, record);
  count_space();
  return SlotClaim{*adopted, arena_.memory(content.slot, content.length)};
}

std::optional<BlockTable::Known> BlockTable::find(const wire::BlockMeta& meta) const {
  const auto found = index_.find(name_of(meta));
  if (found == index_.end()) return std::nullopt;
  const Record& record = records_.at(found->second.value);
  return Known{{found->second, record.generation}, record.published};
}

ItemStatus BlockTable::open_read(const wire::FetchItem& item, std::span<std::byte>& bytes) {
  Record* record = record_of({item.slot, item.generation});
  if (record == nullptr) {
    const bool inside = item.slot.value < arena_.seals().size();
    return inside ? ItemStatus::stale : ItemStatus::not_found;
  }
  if (record->state == State::corrupt) return ItemStatus::corrupt;
  if (record->state != State::sealed) return ItemStatus::stale;
  const std::optional<SealContent> seal = read_seal(arena_.seal(item.slot), item.slot);
  if (!seal || seal->entry.generation != item.generation) return ItemStatus::corrupt;
  const wire::SlotEntry& entry = seal->entry;
  const bool named =
      entry.meta.space == item.space && entry.meta.key == item.key && entry.meta.part == item.part;
  const std::uint64_t end = std::uint64_t{item.offset} + item.length;
  if (!named || item.length == 0 || end > record->length) return ItemStatus::not_found;
  bytes = arena_.memory(item.slot, record->length).subspan(item.offset, item.length);
  ++record->in_flight, ++reads_in_flight_;
  return ItemStatus::ok;
}

ItemStatus BlockTable::open_read(const SlotRef& at, std::span<std::byte>& bytes, Checksum& sum) {
  Record* record = record_of(at);
  if (record == nullptr || record->state != State::sealed) return ItemStatus::stale;
  const std::optional<SealContent> seal = read_seal(arena_.seal(at.slot), at.slot);
  if (!seal || seal->entry.generation != at.generation) return ItemStatus::corrupt;
  bytes = arena_.memory(at.slot, record->length);
  sum = seal->entry.checksum;
  ++record->in_flight, ++reads_in_flight_;
  return ItemStatus::ok;
}

void BlockTable::close_read(const SlotRef& at) {
  Record* record = record_of(at);
  check(record != nullptr && record->in_flight > 0, "a transfer ended that was not in flight");
  --reads_in_flight_;
  if (--record->in_flight == 0 && record->state == State::draining) release(at);
}

void BlockTable::settle(const SlotRef& at, ItemStatus verdict) {
  Record* record = record_of(at);
  if (record == nullptr || record->state == State::filling) return;
  if (verdict == ItemStatus::ok) {
    record->published = true;
  } else {
    free(at);
  }
}

bool BlockTable::free(const SlotRef& at) {
  Record* record = record_of(at);
  // A slot being filled is known to nobody but its Store: no one can mean it.
  if (record == nullptr || record->state == State::filling) return false;
  if (record->state == State::draining) return true;
  if (record->state == State::sealed) unindex(at);
  if (record->in_flight == 0) {
    release(at);
  } else {
    record->state = State::draining;
  }
  corrupt_.erase(at.slot.value);
  return true;
}

bool BlockTable::mark_corrupt(const SlotRef& at) {
  Record* record = record_of(at);
  if (record == nullptr || record->state != State::sealed) return false;
  unindex(at);
  clear_seal(arena_.seal(at.slot), arena_.next_generation());
  record->state = State::corrupt;
  corrupt_.insert(at.slot.value);
  NodeCounters::add(counters_.corrupt_slots);
  return true;
}

void BlockTable::free_corrupt(const KeyRange& range) {
  std::vector<SlotRef> corrupt;
  for (const std::uint32_t slot : corrupt_) {
    const Record& record = records_.at(slot);
    if (range.has(record.key)) corrupt.push_back({SlotId{slot}, record.generation});
  }
  for (const SlotRef& at : corrupt) free(at);
}

Result<> BlockTable::adopt(const SealContent& content) {
  const wire::SlotEntry& entry = content.entry;
  if (index_.contains(name_of(entry.meta))) return fail(Errc::corrupt, "a block sealed twice");
  if (entry.length == 0 || entry.length > entry.slot_bytes) {
    return fail(Errc::corrupt, "a block larger than its slot");
  }
  const Slot slot{entry.slot, entry.generation, entry.slot_bytes, content.slab};
  const Result<Slot> adopted = pool_.adopt(slot);
  if (!adopted) return fail(adopted.error());
  Record record;
  record.generation = entry.generation;
  record.key = entry.meta.key;
  record.length = entry.length;
  record.state = State::sealed;
  records_.insert_or_assign(entry.slot.value, record);
  index_.emplace(name_of(entry.meta), entry.slot);
  count_space();
  return {};
}

std::optional<BlockKey> BlockTable::key_of(const SlotRef& at) const {
  const auto found = records_.find(at.slot.value);
  if (found == records_.end() || found->second.generation != at.generation) return std::nullopt;
  if (found->second.state == State::filling) return std::nullopt;
  return found->second.key;
}

bool BlockTable::list(SlotId& from, std::size_t most, const KeyRange& range,
                      std::vector<wire::SlotEntry>& into) {
  std::vector<SlotRef> unsealed;
  const bool last = list_sealed(from, most, range, into, unsealed);
  for (const SlotRef& at : unsealed) {
    log(LogLevel::error, "node: the seal of slot {} was written over: not served any more",
        at.slot.value);
    mark_corrupt(at);
  }
  return last;
}

bool BlockTable::list_sealed(SlotId& from, std::size_t most, const KeyRange& range,
                             std::vector<wire::SlotEntry>& into,
                             std::vector<SlotRef>& unsealed) const {
  std::size_t looked = 0;
  while (const std::optional<Slot> slot = pool_.next_used(from)) {
    if (into.size() >= most || looked++ >= kMostLooked) return false;
    from = SlotId{slot->id.value + slot->slot_bytes / kPageBytes};
    const Record& record = records_.at(slot->id.value);
    if (record.state != State::sealed || !range.has(record.key)) continue;
    const std::optional<SealContent> seal = read_seal(arena_.seal(slot->id), slot->id);
    if (seal && seal->entry.generation == slot->generation) {
      into.push_back(seal->entry);
    } else {
      unsealed.push_back({slot->id, slot->generation});
    }
  }
  return true;
}

void BlockTable::for_each_sealed(
    const std::function<void(const wire::SlotEntry&, std::span<const std::byte>)>& see) const {
  constexpr std::size_t kAtOnce = 1024;
  SlotId from{};
  for (bool last = false; !last;) {
    std::vector<wire::SlotEntry> entries;
    std::vector<SlotRef> unsealed;
    last = list_sealed(from, kAtOnce, {}, entries, unsealed);
    for (const wire::SlotEntry& entry : entries)
      see(entry, arena_.memory(entry.slot, entry.length));
  }
}

void BlockTable::unindex(const SlotRef& at) {
  if (const auto seal = read_seal(arena_.seal(at.slot), at.slot)) {
    const auto found = index_.find(name_of(seal->entry.meta));
    if (found != index_.end() && found->second == at.slot) {
      index_.erase(found);
      return;
    }
  }
  // The seal was scribbled over: the name is lost, the slot is not.
  std::erase_if(index_, [&](const auto& entry) { return entry.second == at.slot; });
}

/// Breaks the seal and gives the slot back to the pool.
void BlockTable::release(const SlotRef& at) {
  records_.erase(at.slot.value);
  clear_seal(arena_.seal(at.slot), arena_.next_generation());
  check(pool_.free(at.slot, at.generation), "a slot of the table is not in the pool");
  count_space();
}

void BlockTable::count_space() noexcept {
  counters_.used_slots.store(pool_.used_slots(), std::memory_order_relaxed);
  counters_.used_bytes.store(pool_.used_bytes(), std::memory_order_relaxed);
  counters_.free_bytes.store(pool_.capacity_bytes() - pool_.used_bytes(),
                             std::memory_order_relaxed);
}

Result<> BlockTable::check_invariants() const {
  if (const Result<> sound = pool_.check_invariants(); !sound) return sound;
  if (records_.size() != pool_.used_slots()) return fail(Errc::corrupt, "slots without a record");
  std::size_t indexed = 0;
  std::size_t corrupt = 0;
  std::uint64_t reads = 0;
  for (const auto& [slot, record] : records_) {
    reads += record.in_flight;
    if (record.state == State::corrupt) ++corrupt;
    if ((record.state == State::corrupt) != corrupt_.contains(slot)) {
      return fail(Errc::corrupt, "what is corrupt is not kept in mind");
    }
    const std::optional<Slot> pooled = pool_.find(SlotId{slot});
    if (!pooled || pooled->generation != record.generation) {
      return fail(Errc::corrupt, "a record's slot is not in the pool");
    }
    if (record.length > pooled->slot_bytes) return fail(Errc::corrupt, "a block outgrew its slot");
    if (record.state == State::draining && record.in_flight == 0) {
      return fail(Errc::corrupt, "a drained slot was not freed");
    }
    if (record.state != State::sealed) continue;
    const std::optional<SealContent> seal = read_seal(arena_.seal(SlotId{slot}), SlotId{slot});
    if (!seal || seal->entry.generation != record.generation ||
        seal->entry.length != record.length) {
      return fail(Errc::corrupt, "a sealed slot's seal is not sound");
    }
    const auto found = index_.find(name_of(seal->entry.meta));
    if (found == index_.end() || found->second.value != slot) {
      return fail(Errc::corrupt, "a sealed slot is not indexed");
    }
    ++indexed;
  }
  if (corrupt != corrupt_.size()) return fail(Errc::corrupt, "a slot is corrupt that is free");
  if (indexed != index_.size()) return fail(Errc::corrupt, "the index names what is not sealed");
  if (reads != reads_in_flight_) return fail(Errc::corrupt, "transfers in flight do not add up");
  return {};
}

}  // namespace membrain
