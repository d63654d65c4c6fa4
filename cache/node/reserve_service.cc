#include "cache/node/reserve_service.h"

#include <algorithm>
#include <utility>

namespace membrain {

using wire::ItemStatus;

ReserveService::ReserveService(DataLoop& data, SpaceWatch& space, Reservations& reservations)
    : data_(data),
      space_(space),
      reservations_(reservations),
      look_(data.loop(), [this] { look(); }) {}

void ReserveService::on_reserve(PeerId peer, OpId op, const wire::ReserveSlots& request) {
  ItemStatus verdict = data_.authority.check(request.proof);
  if (verdict == ItemStatus::ok && stopped_) verdict = ItemStatus::unavailable;
  if (verdict == ItemStatus::ok && !data_.table.arena().writer_alive(request.writer)) {
    verdict = ItemStatus::denied;
  }
  const Duration asked = std::chrono::milliseconds(request.deadline_ms);
  const TimePoint until = data_.loop().now() + std::min(asked, reservations_.limits().longest);
  wire::ReservedSlots answer;
  answer.items.reserve(request.items.size());
  for (const wire::ReserveItem& item : request.items) {
    answer.items.push_back(verdict == ItemStatus::ok ? reserve(peer, request, item, until)
                                                     : wire::ReservedItem{verdict, {}});
  }
  if (verdict == ItemStatus::ok) {
    answer.lost = reservations_.lost_by(request.writer, wire::kMaxReserveItems);
  }
  if (!reservations_.empty() && !look_.armed()) look_.arm(data_.loop().now() + kLook);
  std::vector<std::byte> frame;
  // Of a peer that is gone everything is lost soon.
  static_cast<void>(data_.fabric.send(peer, wire::write_frame(frame, data_.header(op), answer)));
}

wire::ReservedItem ReserveService::reserve(PeerId peer, const wire::ReserveSlots& request,
                                           const wire::ReserveItem& item, TimePoint until) {
  const auto known = data_.table.find(item.meta);
  if (known && known->published) return {ItemStatus::duplicate, {}};
  if (!reservations_.has_room(request.writer, item.length)) return {ItemStatus::unavailable, {}};
  const Result<SlotClaim> claim = data_.table.claim(item.length);
  space_.asked(item.length);
  if (!claim) {
    const bool full = claim.error().code == Errc::out_of_capacity;
    return {full ? ItemStatus::full : ItemStatus::too_large, {}};
  }
  data_.table.lend(*claim, request.writer);
  reservations_.lend({*claim, request.writer, item.meta, peer, until, false});
  return {ItemStatus::ok, {claim->slot.id, claim->slot.generation}};
}

void ReserveService::on_give_back(const wire::GiveBackSlots& request) {
  for (const wire::SlotRef& at : request.items) {
    if (const auto slot = reservations_.take(request.writer, at)) {
      data_.table.abandon(slot->claim);
    }
  }
}

void ReserveService::on_lost(PeerId peer) {
  reservations_.lose(peer);
}

void ReserveService::adopt(const SlotClaim& claim, WriterId writer) {
  reservations_.lend({claim, writer, {}, {}, {}, true});
  look_.arm(data_.loop().now() + kLook);
}

void ReserveService::stop() {
  stopped_ = true;
  look_.cancel();
}

void ReserveService::look() {
  reservations_.lose_overdue(data_.loop().now());
  const Arena& arena = data_.table.arena();
  const auto alive = [&arena](WriterId writer) { return arena.writer_alive(writer); };
  for (const LentSlot& slot : reservations_.take_orphans(alive)) data_.table.abandon(slot.claim);
  if (!reservations_.empty()) look_.arm(data_.loop().now() + kLook);
}

}  // namespace membrain
