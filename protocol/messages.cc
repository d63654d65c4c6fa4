#include "protocol/messages.h"

#include <algorithm>
#include <utility>

#include "protocol/lists.h"

namespace membrain::wire {

namespace {

void put_flag(Writer& out, bool flag) {
  out.put(static_cast<std::uint8_t>(flag));
}

void get_flag(Reader& in, bool& flag) {
  std::uint8_t number = 0;
  in.get(number);
  flag = number != 0;
}

void put_statuses(Writer& out, const std::vector<ItemStatus>& statuses) {
  put_list(out, statuses, [&](ItemStatus status) { out.put(status); });
}

void get_statuses(Reader& in, std::vector<ItemStatus>& statuses) {
  get_list(in, statuses, kMaxPublishItems, 1,
           [&](ItemStatus& status) { in.get(status, kLastItemStatus); });
}

constexpr std::size_t kSlotEntryBytes = 88;

void put_entries(Writer& out, const std::vector<SlotEntry>& entries) {
  put_list(out, entries, [&](const SlotEntry& entry) { entry.encode(out); });
}

void get_entries(Reader& in, std::vector<SlotEntry>& entries) {
  get_list(in, entries, kMaxPublishItems, kSlotEntryBytes,
           [&](SlotEntry& entry) { entry.decode(in); });
}

}  // namespace

void Refused::encode(Writer& out) const {
  out.put(code), out.put(std::string_view(reason).substr(0, kMaxReasonBytes));
}
void Refused::decode(Reader& in) {
  in.get(code, Errc::cancelled), in.get(reason, kMaxReasonBytes);
  if (code < Errc::invalid_argument) in.spoil();
}

void Hello::encode(Writer& out) const {
  out.put(std::string_view(tenant)), out.put(proof), out.put(resume);
  out.put(std::string_view(label));
}
void Hello::decode(Reader& in) {
  in.get(tenant, kMaxTextBytes), in.get(proof), in.get(resume), in.get(label, kMaxTextBytes);
}

void SessionProof::encode(Writer& out) const {
  out.put(session), out.put(epoch), out.put(grant), out.put(expires_ms), out.put(mac);
}
void SessionProof::decode(Reader& in) {
  in.get(session), in.get(epoch), in.get(grant), in.get(expires_ms), in.get(mac);
}

void Welcome::encode(Writer& out) const {
  proof.encode(out), out.put(ttl_ms), out.put(map_version), out.put(max_keys);
}
void Welcome::decode(Reader& in) {
  proof.decode(in), in.get(ttl_ms), in.get(map_version), in.get(max_keys);
}

void OpenNamespace::encode(Writer& out) const {
  out.put(digest), out.put(family), out.put(std::string_view(label));
  out.put(replicas), out.put(zones);
}
void OpenNamespace::decode(Reader& in) {
  in.get(digest), in.get(family), in.get(label, kMaxTextBytes);
  in.get(replicas), in.get(zones, kLastZoneRule);
}

void NamespaceOpened::encode(Writer& out) const {
  out.put(id), out.put(era), put_flag(out, other_seed);
}
void NamespaceOpened::decode(Reader& in) {
  in.get(id), in.get(era), get_flag(in, other_seed);
}

void Heartbeat::encode(Writer& out) const {
  out.put(session);
}
void Heartbeat::decode(Reader& in) {
  in.get(session);
}

void Alive::encode(Writer& out) const {
  out.put(map_version);
}
void Alive::decode(Reader& in) {
  in.get(map_version);
}

void Lookup::encode(Writer& out) const {
  out.put(session), out.put(lookup), out.put(mode);
  put_list(out, sections, [&](const LookupSection& section) {
    out.put(section.space), out.put(section.rule), out.put(section.window_blocks);
    out.put(section.parts), put_keys(out, section.keys);
  });
}
void Lookup::decode(Reader& in) {
  in.get(session), in.get(lookup), in.get(mode, LookupMode::pin);
  std::size_t keys = 0;
  get_list(in, sections, kMaxSections, 19, [&](LookupSection& section) {
    in.get(section.space), in.get(section.rule, LookupRule::all), in.get(section.window_blocks);
    in.get(section.parts), get_keys(in, section.keys);
    keys += section.keys.size();
    if (keys > kMaxKeys || section.parts == 0 || section.parts > kMaxParts) in.spoil();
  });
}

void Found::encode(Writer& out) const {
  out.put(lookup);
  put_list(out, sections, [&](const FoundSection& section) {
    out.put(section.era), out.put(section.prefix_blocks);
    put_plain(out, section.bitmap), put_locations(out, section.locations);
  });
}
void Found::decode(Reader& in) {
  in.get(lookup);
  get_list(in, sections, kMaxSections, 16, [&](FoundSection& section) {
    in.get(section.era), in.get(section.prefix_blocks);
    get_plain(in, section.bitmap, kMaxKeys / 8), get_locations(in, section.locations);
  });
}

void Unpin::encode(Writer& out) const {
  out.put(session);
  put_list(out, items, [&](const UnpinItem& item) {
    out.put(item.lookup), out.put(item.space), put_keys(out, item.keys);
  });
}
void Unpin::decode(Reader& in) {
  in.get(session);
  std::size_t keys = 0;
  get_list(in, items, kMaxUnpinItems, 20, [&](UnpinItem& item) {
    in.get(item.lookup), in.get(item.space), get_keys(in, item.keys);
    keys += item.keys.size();
    if (keys > kMaxKeys) in.spoil();
  });
}

void Grant::encode(Writer& out) const {
  out.put(session), out.put(lookup), out.put(valid_ms);
}
void Grant::decode(Reader& in) {
  in.get(session), in.get(lookup), in.get(valid_ms);
}

void Granted::encode(Writer& out) const {
  proof.encode(out);
}
void Granted::decode(Reader& in) {
  proof.decode(in);
}

void Clear::encode(Writer& out) const {
  out.put(session), out.put(space), out.put(era);
}
void Clear::decode(Reader& in) {
  in.get(session), in.get(space), in.get(era);
}

void Cleared::encode(Writer& out) const {
  out.put(era);
}
void Cleared::decode(Reader& in) {
  in.get(era);
}

void ProbeParts::encode(Writer& out) const {
  out.put(session), out.put(space), out.put(era);
  put_list(out, parts, [&](const PartName& name) { out.put(name.key), out.put(name.part); });
}
void ProbeParts::decode(Reader& in) {
  in.get(session), in.get(space), in.get(era);
  get_list(in, parts, kMaxKeys, 18, [&](PartName& name) { in.get(name.key), in.get(name.part); });
}

void ProbedParts::encode(Writer& out) const {
  put_list(out, bitmap, [&](std::uint8_t bits) { out.put(bits); });
}
void ProbedParts::decode(Reader& in) {
  get_list(in, bitmap, kMaxKeys / 8, 1, [&](std::uint8_t& bits) { in.get(bits); });
}

void StatsReply::encode(Writer& out) const {
  put_list(out, counters, [&](const Counter& counter) {
    out.put(std::string_view(counter.name)), out.put(counter.value);
  });
}
void StatsReply::decode(Reader& in) {
  get_list(in, counters, kMaxCounters, 10,
           [&](Counter& counter) { in.get(counter.name, kMaxTextBytes), in.get(counter.value); });
}

void NodeList::encode(Writer& out) const {
  put_list(out, nodes, [&](const NodeEntry& node) {
    out.put(node.node), out.put(node.incarnation), put_flag(out, node.alive);
    out.put(std::string_view(node.address)), out.put(std::string_view(node.host));
    out.put(node.capacity_bytes), out.put(node.free_bytes), out.put(std::string_view(node.door));
    out.put(node.tier);
  });
  put_list(out, nodes, [&](const NodeEntry& node) {
    out.put(std::string_view(node.zone)), out.put(node.load_bytes);
  });
}
void NodeList::decode(Reader& in) {
  get_list(in, nodes, kMaxNodes, kNodeEntryBytes - kNodeEntryMoreBytes, [&](NodeEntry& node) {
    in.get(node.node), in.get(node.incarnation), get_flag(in, node.alive);
    in.get(node.address, kMaxTextBytes), in.get(node.host, kMaxTextBytes);
    in.get(node.capacity_bytes), in.get(node.free_bytes), in.get(node.door, kMaxTextBytes);
    in.get(node.tier, kLastTier);
  });
  struct More {
    std::string zone;
    std::uint64_t load_bytes = 0;
  };
  std::vector<More> more;
  get_list(in, more, kMaxNodes, kNodeEntryMoreBytes,
           [&](More& node) { in.get(node.zone, kMaxTextBytes), in.get(node.load_bytes); });
  if (more.size() != nodes.size()) return in.spoil();
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].zone = std::move(more[i].zone);
    nodes[i].load_bytes = more[i].load_bytes;
  }
}

void Fetch::encode(Writer& out) const {
  proof.encode(out), out.put(deadline_ms);
  put_list(out, items, [&](const FetchItem& item) {
    out.put(item.space), out.put(item.key), out.put(item.part), out.put(item.slot);
    out.put(item.generation), out.put(item.offset), out.put(item.length), out.put(item.tag);
  });
}
void Fetch::decode(Reader& in) {
  proof.decode(in), in.get(deadline_ms);
  get_list(in, items, kMaxFetchItems, 50, [&](FetchItem& item) {
    in.get(item.space), in.get(item.key), in.get(item.part), in.get(item.slot);
    in.get(item.generation), in.get(item.offset), in.get(item.length), in.get(item.tag);
  });
}

Errc why_missing(ItemStatus status) noexcept {
  switch (status) {
    case ItemStatus::stale:
    case ItemStatus::old_era:
      return Errc::stale;
    case ItemStatus::denied:
      return Errc::denied;
    case ItemStatus::unavailable:
      return Errc::unavailable;
    case ItemStatus::cancelled:
      return Errc::timed_out;
    case ItemStatus::corrupt:
      return Errc::corrupt;
    default:
      return Errc::not_found;
  }
}

void Data::encode(Writer& out) const {
  put_list(out, items, [&](const DataItem& item) {
    out.put(item.tag), out.put(item.status), out.put(item.length);
  });
}
void Data::decode(Reader& in) {
  get_list(in, items, kMaxDataItems, 9, [&](DataItem& item) {
    in.get(item.tag), in.get(item.status, kLastItemStatus), in.get(item.length);
    if (item.status != ItemStatus::ok && item.length != 0) in.spoil();
  });
}

void CancelFetch::encode(Writer& out) const {
  out.put(fetch);
}
void CancelFetch::decode(Reader& in) {
  in.get(fetch);
}

void BlockMeta::encode(Writer& out) const {
  out.put(space), out.put(era), out.put(key), out.put(parent), out.put(depth), out.put(part);
  out.put(priority), out.put(intent);
}
void BlockMeta::decode(Reader& in) {
  in.get(space), in.get(era), in.get(key), in.get(parent), in.get(depth), in.get(part);
  in.get(priority), in.get(intent, StoreIntent::replica);
  if (part >= kMaxParts) in.spoil();
}

void Store::encode(Writer& out) const {
  proof.encode(out), out.put(deadline_ms);
  put_list(out, items, [&](const StoreItem& item) {
    item.meta.encode(out), out.put(item.length), out.put(item.checksum);
  });
}
void Store::decode(Reader& in) {
  proof.decode(in), in.get(deadline_ms);
  get_list(in, items, kMaxStoreItems, 72, [&](StoreItem& item) {
    item.meta.decode(in), in.get(item.length), in.get(item.checksum);
  });
}

void Stored::encode(Writer& out) const {
  put_statuses(out, statuses);
}
void Stored::decode(Reader& in) {
  get_statuses(in, statuses);
}

void Suspect::encode(Writer& out) const {
  out.put(slot), out.put(generation);
}
void Suspect::decode(Reader& in) {
  in.get(slot), in.get(generation);
}

void RegisterNode::encode(Writer& out) const {
  out.put(node), out.put(incarnation), out.put(capacity_bytes);
  out.put(std::string_view(address)), out.put(std::string_view(host)), out.put(proof);
  out.put(std::string_view(door)), out.put(tier), out.put(std::string_view(zone));
}
void RegisterNode::decode(Reader& in) {
  in.get(node), in.get(incarnation), in.get(capacity_bytes);
  in.get(address, kMaxTextBytes), in.get(host, kMaxTextBytes), in.get(proof);
  in.get(door, kMaxTextBytes), in.get(tier, kLastTier), in.get(zone, kMaxTextBytes);
}

void Accepted::encode(Writer& out) const {
  out.put(epoch), out.put(grant_key), out.put(ttl_ms), out.put(map_version);
}
void Accepted::decode(Reader& in) {
  in.get(epoch), in.get(grant_key), in.get(ttl_ms), in.get(map_version);
}

void SlotEntry::encode(Writer& out) const {
  meta.encode(out), out.put(slot), out.put(generation), out.put(length), out.put(slot_bytes);
  out.put(checksum);
}
void SlotEntry::decode(Reader& in) {
  meta.decode(in), in.get(slot), in.get(generation), in.get(length), in.get(slot_bytes);
  in.get(checksum);
}

void Publish::encode(Writer& out) const {
  out.put(node), out.put(incarnation), put_entries(out, items);
}
void Publish::decode(Reader& in) {
  in.get(node), in.get(incarnation), get_entries(in, items);
}

void Published::encode(Writer& out) const {
  put_statuses(out, statuses);
}
void Published::decode(Reader& in) {
  get_statuses(in, statuses);
}

void NeedSlots::encode(Writer& out) const {
  out.put(node), out.put(incarnation), out.put(slot_bytes), out.put(count);
  put_slots(out, candidates);
}
void NeedSlots::decode(Reader& in) {
  in.get(node), in.get(incarnation), in.get(slot_bytes), in.get(count), get_slots(in, candidates);
}

void FreeSlots::encode(Writer& out) const {
  out.put(node), out.put(incarnation), out.put(epoch), put_slots(out, items);
}
void FreeSlots::decode(Reader& in) {
  in.get(node), in.get(incarnation), in.get(epoch), get_slots(in, items);
}

void Freed::encode(Writer& out) const {
  out.put(node), out.put(incarnation), put_slots(out, items);
}
void Freed::decode(Reader& in) {
  in.get(node), in.get(incarnation), get_slots(in, items);
}

void Report::encode(Writer& out) const {
  out.put(node), out.put(incarnation), out.put(portion), put_flag(out, last);
  put_entries(out, items);
}
void Report::decode(Reader& in) {
  in.get(node), in.get(incarnation), in.get(portion), get_flag(in, last), get_entries(in, items);
}

void Reported::encode(Writer& out) const {
  put_statuses(out, statuses);
}
void Reported::decode(Reader& in) {
  get_statuses(in, statuses);
}

void Corrupt::encode(Writer& out) const {
  out.put(node), out.put(incarnation), out.put(at.slot), out.put(at.generation);
}
void Corrupt::decode(Reader& in) {
  in.get(node), in.get(incarnation), in.get(at.slot), in.get(at.generation);
}

void NodeHeartbeat::encode(Writer& out) const {
  out.put(node), out.put(incarnation), out.put(free_bytes), out.put(moved_bytes);
}
void NodeHeartbeat::decode(Reader& in) {
  in.get(node), in.get(incarnation), in.get(free_bytes), in.get(moved_bytes);
}

}  // namespace membrain::wire
