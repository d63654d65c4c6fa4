// Codecs of the messages by which a writer of a node's host fills slots in place.
#include "protocol/lists.h"
#include "protocol/messages.h"

namespace membrain::wire {

void ReserveSlots::encode(Writer& out) const {
  proof.encode(out), out.put(deadline_ms), out.put(writer);
  put_list(out, items,
           [&](const ReserveItem& item) { item.meta.encode(out), out.put(item.length); });
}
void ReserveSlots::decode(Reader& in) {
  proof.decode(in), in.get(deadline_ms), in.get(writer);
  get_list(in, items, kMaxReserveItems, 56,
           [&](ReserveItem& item) { item.meta.decode(in), in.get(item.length); });
}

void ReservedSlots::encode(Writer& out) const {
  put_list(out, items, [&](const ReservedItem& item) {
    out.put(item.status), out.put(item.at.slot), out.put(item.at.generation);
  });
  put_slots(out, lost);
}
void ReservedSlots::decode(Reader& in) {
  get_list(in, items, kMaxReserveItems, 1 + kSlotRefBytes, [&](ReservedItem& item) {
    in.get(item.status, kLastItemStatus), in.get(item.at.slot), in.get(item.at.generation);
  });
  get_slots(in, lost, kMaxReserveItems);
}

void SealSlots::encode(Writer& out) const {
  proof.encode(out), out.put(deadline_ms), out.put(writer);
  put_list(out, items, [&](const SealItem& item) {
    out.put(item.at.slot), out.put(item.at.generation), out.put(item.checksum);
  });
}
void SealSlots::decode(Reader& in) {
  proof.decode(in), in.get(deadline_ms), in.get(writer);
  get_list(in, items, kMaxReserveItems, kSlotRefBytes + sizeof(Checksum), [&](SealItem& item) {
    in.get(item.at.slot), in.get(item.at.generation), in.get(item.checksum);
  });
}

void GiveBackSlots::encode(Writer& out) const {
  out.put(writer), put_slots(out, items);
}
void GiveBackSlots::decode(Reader& in) {
  in.get(writer), get_slots(in, items, kMaxReserveItems);
}

void OpenWindow::encode(Writer& out) const {
  proof.encode(out);
}
void OpenWindow::decode(Reader& in) {
  proof.decode(in);
}

void WindowOpened::encode(Writer& out) const {
  out.put(incarnation), out.put(capacity_bytes), out.put(seals_offset), out.put(slots_offset);
  put_list(out, window, [&](std::byte one) { out.put(static_cast<std::uint8_t>(one)); });
}
void WindowOpened::decode(Reader& in) {
  in.get(incarnation), in.get(capacity_bytes), in.get(seals_offset), in.get(slots_offset);
  get_list(in, window, kMaxWindowBytes, 1, [&](std::byte& one) {
    std::uint8_t value = 0;
    in.get(value);
    one = std::byte{value};
  });
}

}  // namespace membrain::wire
