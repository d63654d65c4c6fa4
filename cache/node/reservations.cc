#include "cache/node/reservations.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.h"

namespace membrain {

Reservations::Reservations(std::uint64_t capacity_bytes, ReserveLimits limits) noexcept
    : limits_(limits), most_bytes_(capacity_bytes / 2) {
  limits_.max_bytes = std::min(limits_.max_bytes, capacity_bytes / 4);
}

bool Reservations::has_room(WriterId writer, std::uint64_t bytes) const noexcept {
  if (bytes > most_bytes_ || bytes_ > most_bytes_ - bytes) return false;
  const auto found = writers_.find(writer);
  if (found == writers_.end()) return bytes <= limits_.max_bytes;
  const Account& account = found->second;
  return account.slots < limits_.max_slots && account.bytes + bytes <= limits_.max_bytes;
}

void Reservations::lend(LentSlot slot) {
  Account& account = writers_[slot.writer];
  ++account.slots;
  account.bytes += slot.claim.slot.slot_bytes;
  bytes_ += slot.claim.slot.slot_bytes;
  const SlotId id = slot.claim.slot.id;
  check(slots_.emplace(id, std::move(slot)).second, "a slot was lent twice");
}

LentSlot Reservations::take_out(Slots::iterator at) {
  LentSlot slot = std::move(at->second);
  slots_.erase(at);
  const auto account = writers_.find(slot.writer);
  account->second.bytes -= slot.claim.slot.slot_bytes;
  bytes_ -= slot.claim.slot.slot_bytes;
  if (--account->second.slots == 0) writers_.erase(account);
  return slot;
}

std::optional<LentSlot> Reservations::take(WriterId writer, const wire::SlotRef& at) {
  const auto found = slots_.find(at.slot);
  const bool same = found != slots_.end() && found->second.writer == writer &&
                    found->second.claim.slot.generation == at.generation;
  if (!same) return std::nullopt;
  return take_out(found);
}

void Reservations::lose(PeerId peer) noexcept {
  for (auto& [id, slot] : slots_) slot.lost = slot.lost || slot.peer == peer;
}

void Reservations::lose_overdue(TimePoint now) noexcept {
  for (auto& [id, slot] : slots_) slot.lost = slot.lost || slot.until <= now;
}

std::vector<wire::SlotRef> Reservations::lost_by(WriterId writer, std::size_t most) const {
  std::vector<wire::SlotRef> lost;
  if (!writers_.contains(writer)) return lost;
  for (const auto& [id, slot] : slots_) {
    if (lost.size() == most) break;
    if (slot.lost && slot.writer == writer) lost.push_back({id, slot.claim.slot.generation});
  }
  return lost;
}

std::vector<LentSlot> Reservations::take_orphans(const std::function<bool(WriterId)>& alive) {
  std::set<WriterId> gone;
  for (const auto& [writer, account] : writers_) {
    if (!alive(writer)) gone.insert(writer);
  }
  std::vector<LentSlot> orphans;
  for (auto next = slots_.begin(); next != slots_.end();) {
    const auto at = next++;
    if (at->second.lost && gone.contains(at->second.writer)) orphans.push_back(take_out(at));
  }
  return orphans;
}

}  // namespace membrain
