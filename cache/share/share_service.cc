#include "cache/share/share_service.h"

#include <algorithm>

#include "base/check.h"
#include "cache/memory/straight.h"
#include "cache/node/fetch_answer.h"
#include "transport/completion.h"
#include "transport/signal.h"

namespace membrain {

using wire::FetchItem;
using wire::ItemStatus;

wire::Header SharePlace::header(OpId op) const noexcept {
  wire::Header header;
  header.op = op;
  header.epoch = authority.latest();
  return header;
}

DeviceLane* SharePlace::lane(int device) const noexcept {
  const auto found = std::ranges::find(lanes, device, [](const auto& at) { return at->ordinal(); });
  return found == lanes.end() ? nullptr : found->get();
}

/// A Fetch under way; lives in its coroutine.
struct ShareService::Active {
  Active(ShareService& service, PeerId asking, OpId asked)
      : in(service), peer(asking), op(asked), sent(service.place_.loop().ready()) {
    in.active_.push_back(this);
  }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;
  ~Active() { std::erase(in.active_, this); }

  ShareService& in;
  PeerId peer;
  OpId op;
  bool cancelled = false;
  std::size_t sending = 0;
  Signal sent;  ///< one of those that are being sent has been
};

ShareService::~ShareService() {
  check(active_.empty(), "a share service was destroyed under a fetch");
}

ShareService::Active* ShareService::find(PeerId peer, OpId op) const noexcept {
  const auto same = [&](const Active* fetch) { return fetch->peer == peer && fetch->op == op; };
  const auto found = std::ranges::find_if(active_, same);
  return found == active_.end() ? nullptr : *found;
}

void ShareService::on_fetch(PeerId peer, OpId op, wire::Fetch request, bool into_device) {
  if (find(peer, op) != nullptr) return;  // repeated
  NodeCounters::add(place_.counters.fetches);
  ItemStatus verdict = place_.authority.check(request.proof);
  const bool shed = stopped_ || active_.size() >= kMaxFetches;
  if (verdict == ItemStatus::ok && shed) verdict = ItemStatus::unavailable;
  if (verdict != ItemStatus::ok) return answer(peer, op, request.items, verdict);
  place_.loop().spawn(serve(peer, op, std::move(request), into_device));
}

/// Slots are the bound on what is under way: the next group is copied while the last one is sent.
Task<> ShareService::serve(PeerId peer, OpId op, wire::Fetch request, bool into_device) {
  Active fetch(*this, peer, op);
  const Duration asked = std::chrono::milliseconds(request.deadline_ms);
  const TimePoint deadline = place_.loop().now() + std::min(asked, kLongest);
  const auto stopped = [&fetch] { return fetch.cancelled; };
  std::span<const FetchItem> rest = request.items;
  while (!rest.empty() && !fetch.cancelled && place_.loop().now() < deadline) {
    DeviceLane* const lane = lane_of(rest.front());
    if (lane == nullptr) {
      answer(peer, op, rest.first(1), ItemStatus::stale);
      rest = rest.subspan(1);
      continue;
    }
    Task<Result<DeviceLane::Slot>> taking = lane->take(deadline, stopped);
    Result<DeviceLane::Slot> slot = co_await taking;
    if (!slot) break;
    Group group = open(rest, *lane);
    const bool straight =
        lane->straight() && may_leave(place_.fabric.device_payloads(peer), into_device);
    Result<> copied;
    if (group.bytes != 0) {
      Task<Result<>> copying = copy(group, *lane, *slot, straight);
      copied = co_await copying;
    }
    close_reads(group);
    if (!copied) {
      for (const std::size_t item : group.read) {
        group.message.items[item].status = ItemStatus::unavailable;
        group.message.items[item].length = 0;
      }
    }
    for (const wire::DataItem& item : group.message.items) {
      NodeCounters::add(place_.counters.fetch_items[static_cast<std::size_t>(item.status)]);
    }
    if (copied && group.bytes != 0) {
      ++fetch.sending;
      Segment payload = straight ? slot->device() : Segment{slot->host().data()};
      payload.size = static_cast<std::size_t>(group.bytes);
      place_.loop().spawn(send(fetch, std::move(*slot), std::move(group.message), payload));
    } else {
      send_frame(peer, op, group.message);
    }
  }
  answer(peer, op, rest, ItemStatus::cancelled);
  while (fetch.sending != 0) co_await fetch.sent;
}

Task<Result<>> ShareService::copy(const Group& group, DeviceLane& lane, DeviceLane::Slot& slot,
                                  bool straight) {
  if (!straight) {
    Task<Result<>> gathering = lane.gather(slot, group.pieces);
    co_return co_await gathering;
  }
  Task<Result<std::vector<Checksum>>> collecting = lane.hash(slot, group.pieces, {});
  const Result<std::vector<Checksum>> collected = co_await collecting;
  if (!collected) co_return fail(collected.error());
  co_return Result<>{};
}

Task<> ShareService::send(Active& fetch, DeviceLane::Slot slot, wire::Data message,
                          Segment payload) {
  {
    const DeviceLane::Slot held = std::move(slot);
    Timer hung(place_.loop(), [this, peer = fetch.peer] { place_.peers.close(peer); });
    hung.arm(place_.loop().now() + kHung);
    std::vector<std::byte> frame;
    wire::write_frame(frame, place_.header(fetch.op), message);
    Completion sent(place_.loop().ready());
    place_.fabric.send(fetch.peer, frame, {&payload, 1}, sent);
    const Result<> outcome = co_await sent;
    if (outcome) {
      NodeCounters::add(place_.counters.bytes_out, payload.size);
    } else {
      fetch.cancelled = true;
    }
  }
  --fetch.sending;
  fetch.sent.raise();
}

DeviceLane* ShareService::lane_of(const FetchItem& item) const noexcept {
  const SharedBlock* const block = place_.table.find({item.slot, item.generation});
  return block == nullptr ? nullptr : place_.lane(block->device);
}

ShareService::Group ShareService::open(std::span<const FetchItem>& rest, const DeviceLane& lane) {
  Group group;
  while (!rest.empty() && group.message.items.size() < wire::kMaxDataItems) {
    const FetchItem& item = rest.front();
    const SharedBlock* block = nullptr;
    ItemStatus status = place_.table.open_read(item, block);
    if (status == ItemStatus::ok) {
      const wire::SlotRef at{item.slot, item.generation};
      if (block->device != lane.ordinal() || !add(group, item, *block, lane)) {
        place_.table.close_read(at);
        if (!group.message.items.empty() || block->device != lane.ordinal()) break;
        status = ItemStatus::not_found;  // more than any slot holds: `add` refuses it for ever
      } else {
        group.open.push_back(at);
        group.read.push_back(group.message.items.size());
      }
    }
    const std::uint32_t length = status == ItemStatus::ok ? item.length : 0;
    group.message.items.push_back({item.tag, status, length});
    rest = rest.subspan(1);
  }
  return group;
}

/// False if it does not fit any more.
bool ShareService::add(Group& group, const FetchItem& item, const SharedBlock& block,
                       const DeviceLane& lane) {
  std::size_t chunks = 0;
  block.place().for_each_piece(item.offset, item.length, [&](const std::byte*, std::size_t size) {
    chunks += cuda::ChunkTable::chunks_of(size);
  });
  const std::uint64_t most = group.bytes == 0
                                 ? lane.slot_bytes()
                                 : std::min<std::uint64_t>(kGroupBytes, lane.slot_bytes());
  const bool fits =
      group.bytes + item.length <= most && group.chunks + chunks <= DeviceLane::kMaxChunks;
  if (!fits) return false;
  block.place().for_each_piece(
      item.offset, item.length, [&](const std::byte* data, std::size_t size) {
        group.pieces.push_back({reinterpret_cast<cuda::Address>(data), size});
      });
  group.bytes += item.length;
  group.chunks += chunks;
  return true;
}

void ShareService::close_reads(const Group& group) {
  for (const wire::SlotRef& at : group.open) place_.table.close_read(at);
  if (!group.open.empty()) place_.read_ended();
}

void ShareService::on_cancel(PeerId peer, OpId fetch) {
  if (Active* const found = find(peer, fetch)) found->cancelled = true;
  for (const auto& lane : place_.lanes) lane->stir();
}

void ShareService::on_lost(PeerId peer) {
  for (Active* const fetch : active_) {
    if (fetch->peer == peer) fetch->cancelled = true;
  }
  for (const auto& lane : place_.lanes) lane->stir();
}

void ShareService::stop() {
  stopped_ = true;
  for (Active* const fetch : active_) fetch->cancelled = true;
  for (const auto& lane : place_.lanes) lane->stir();
}

/// All `items` with one status and no bytes.
void ShareService::answer(PeerId peer, OpId op, std::span<const FetchItem> items,
                          ItemStatus status) {
  NodeCounters::add(place_.counters.fetch_items[static_cast<std::size_t>(status)], items.size());
  answer_items(place_.fabric, peer, place_.header(op), items, status);
}

void ShareService::send_frame(PeerId peer, OpId op, const wire::Data& message) {
  // A peer that is gone needs no answer.
  std::vector<std::byte> frame;
  static_cast<void>(place_.fabric.send(peer, wire::write_frame(frame, place_.header(op), message)));
}

}  // namespace membrain
