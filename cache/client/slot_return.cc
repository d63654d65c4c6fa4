#include "cache/client/slot_return.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace membrain {

namespace {

void tell(NodeLinks& links, const WritableArena& arena, const std::vector<wire::SlotRef>& slots) {
  const PeerId peer = links.connected(arena.node());
  if (!peer) return;
  for (std::size_t at = 0; at < slots.size(); at += wire::kMaxReserveItems) {
    const std::size_t end = std::min(slots.size(), at + wire::kMaxReserveItems);
    wire::GiveBackSlots message;
    message.writer = arena.writer();
    message.items.assign(slots.begin() + static_cast<std::ptrdiff_t>(at),
                         slots.begin() + static_cast<std::ptrdiff_t>(end));
    std::vector<std::byte> frame;
    wire::Header head;
    head.op = links.calls().next_op();
    wire::write_frame(frame, head, message);
    static_cast<void>(links.fabric().send(peer, frame));
  }
}

}  // namespace

void give_back(NodeLinks& links, const WritableArena& arena, std::vector<wire::SlotRef> slots) {
  arena.end(slots);
  tell(links, arena, slots);
}

void end_lent(NodeLinks& links, const WritableArena& arena, std::vector<wire::SlotRef> slots,
              const StoreAnswer& answer) {
  if (answer.outcome) return arena.end(slots);
  give_back(links, arena, std::move(slots));
}

void give_back_idle(NodeLinks& links, const WritableArena& arena,
                    const std::vector<wire::SlotRef>& lost) {
  if (!lost.empty()) tell(links, arena, arena.idle_of(lost));
}

}  // namespace membrain
