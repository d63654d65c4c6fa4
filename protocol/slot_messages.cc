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

}  // namespace membrain::wire
