#include "cache/node/store_service.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/checksum.h"

namespace membrain {

using wire::ItemStatus;
using wire::SlotRef;

namespace {

constexpr std::size_t kScratchBytes = 1 << 20;

/// Bytes of all items; none if they are not what came.
bool adds_up(const wire::Store& request, std::uint64_t payload_bytes) {
  std::uint64_t total = 0;
  for (const wire::StoreItem& item : request.items) {
    if (item.length == 0) return false;
    total += item.length;
  }
  return !request.items.empty() && total == payload_bytes;
}

}  // namespace

/// A Store under way; lives in its coroutine.
struct StoreService::Active {
  Active(StoreService& service, PeerId from, OpId id, std::size_t items, std::uint64_t payload)
      : in(service),
        name(from, id),
        bytes(payload),
        statuses(items, ItemStatus::unavailable),
        news(service.data_.loop()) {
    in.active_.emplace(name, this);
    in.receiving_bytes_ += bytes;
  }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;
  ~Active() {
    in.receiving_bytes_ -= bytes;
    in.active_.erase(name);
  }

  StoreService& in;
  Name name;
  std::uint64_t bytes;
  std::vector<ItemStatus> statuses;
  std::size_t left = 0;  ///< items that wait for the shard
  bool over = false;     ///< nobody waits for the answer any more
  Pause news;
};

StoreService::StoreService(DataLoop& data, Announcers& announcers, SpaceWatch& space,
                           Reservations& reservations, StoreLimits limits)
    : data_(data),
      announcers_(announcers),
      space_(space),
      reservations_(reservations),
      limits_(limits) {}

StoreService::~StoreService() {
  check(active_.empty(), "a store service was destroyed under a store");
}

void StoreService::on_store(PeerId peer, OpId op, wire::Store request, Payload payload) {
  if (active_.contains({peer, op})) return;  // repeated: the answer will come
  NodeCounters::add(data_.counters.stores);
  if (!adds_up(request, payload.size())) {
    const wire::Refused refused{Errc::invalid_argument, "a Store's lengths are not its payload's"};
    std::vector<std::byte> frame;
    static_cast<void>(data_.fabric.send(peer, wire::write_frame(frame, data_.header(op), refused)));
    return;
  }
  ItemStatus verdict = data_.authority.check(request.proof);
  const bool shed = full() || receiving_bytes_ + payload.size() > limits_.max_receiving_bytes;
  if (verdict == ItemStatus::ok && shed) verdict = ItemStatus::unavailable;
  if (verdict == ItemStatus::ok && payload.size() > kMaxPayloadBytes) {
    verdict = ItemStatus::too_large;
  }
  if (verdict != ItemStatus::ok) {
    const Payload discarded = std::move(payload);
    return answer(peer, op, std::vector<ItemStatus>(request.items.size(), verdict));
  }
  data_.loop().spawn(serve(peer, op, std::move(request), std::move(payload)));
}

Task<> StoreService::serve(PeerId peer, OpId op, wire::Store request, Payload payload) {
  Active store(*this, peer, op, request.items.size(), payload.size());
  const Duration asked = std::chrono::milliseconds(request.deadline_ms);
  const TimePoint deadline = data_.loop().now() + std::min(asked, limits_.longest);
  Claims claims(request.items.size());
  if (place(request, store, claims)) {
    Task<Result<>> receiving = receive(peer, request, claims, std::move(payload), deadline);
    const Result<> received = co_await receiving;
    if (received) {
      Task<> publishing = publish(request, claims, store);
      co_await publishing;
    } else {
      for (const std::optional<SlotClaim>& claim : claims) {
        if (claim) data_.table.abandon(*claim);
      }
      store.over = true;
    }
  } else {
    const Payload discarded = std::move(payload);
  }
  Task<> waiting = await_verdicts(store, deadline);
  co_await waiting;
  answer(peer, op, std::move(store.statuses));
}

Task<> StoreService::await_verdicts(Active& store, TimePoint deadline) {
  while (store.left > 0 && !store.over && !stopped_ && data_.loop().now() < deadline) {
    Task<> waiting = store.news.until(deadline);
    co_await waiting;
  }
  unwatch(store);
}

void StoreService::on_seal(PeerId peer, OpId op, const wire::SealSlots& request) {
  if (active_.contains({peer, op})) return;  // repeated: the answer will come
  NodeCounters::add(data_.counters.stores);
  ItemStatus verdict = data_.authority.check(request.proof);
  if (verdict == ItemStatus::ok && full()) verdict = ItemStatus::unavailable;
  wire::Store store;
  store.deadline_ms = request.deadline_ms;
  Claims claims;
  take_lent(request, store, claims);
  if (verdict == ItemStatus::ok) {
    return data_.loop().spawn(serve_sealed(peer, op, std::move(store), std::move(claims)));
  }
  for (const std::optional<SlotClaim>& claim : claims) {
    if (claim) data_.table.abandon(*claim);
  }
  answer(peer, op, std::vector<ItemStatus>(claims.size(), verdict));
}

/// Makes a store of what can still be sealed; what cannot is free at once.
void StoreService::take_lent(const wire::SealSlots& request, wire::Store& store, Claims& claims) {
  for (const wire::SealItem& item : request.items) {
    wire::StoreItem& made = store.items.emplace_back();
    std::optional<SlotClaim>& claim = claims.emplace_back();
    const std::optional<LentSlot> slot = reservations_.take(request.writer, item.at);
    if (!slot) continue;
    if (slot->lost || slot->until <= data_.loop().now()) {
      data_.table.abandon(slot->claim);
      continue;
    }
    made.meta = slot->meta;
    made.length = static_cast<std::uint32_t>(slot->claim.memory.size());
    made.checksum = item.checksum;
    claim = slot->claim;
  }
}

Task<> StoreService::serve_sealed(PeerId peer, OpId op, wire::Store request, Claims claims) {
  Active store(*this, peer, op, request.items.size(), 0);
  const Duration asked = std::chrono::milliseconds(request.deadline_ms);
  const TimePoint deadline = data_.loop().now() + std::min(asked, limits_.longest);
  for (std::size_t i = 0; i < claims.size(); ++i) {
    if (!claims[i]) store.statuses[i] = ItemStatus::stale;
  }
  Task<> publishing = publish(request, claims, store);
  co_await publishing;
  Task<> waiting = await_verdicts(store, deadline);
  co_await waiting;
  answer(peer, op, std::move(store.statuses));
}

/// The bytes are in their slots: verifies, seals, tells.
Task<> StoreService::publish(const wire::Store& request, const Claims& claims, Active& store) {
  std::vector<Checksum> sums(claims.size());
  Task<> hashing = hash(claims, sums, store);
  co_await hashing;
  seal(request, claims, sums, store);
}

Task<> StoreService::hash(const Claims& claims, std::vector<Checksum>& sums, Active& store) {
  std::uint64_t hashed = 0;
  for (std::size_t i = 0; i < claims.size(); ++i) {
    if (!claims[i]) continue;
    if (hashed > 0 && hashed + claims[i]->memory.size() > kHashSlice) {
      Task<> next_turn = store.news.until(data_.loop().now());
      co_await next_turn;
      hashed = 0;
    }
    sums[i] = checksum(claims[i]->memory);
    hashed += claims[i]->memory.size();
  }
}

/// Decides each item: a slot, or at once an answer, or the slot of an earlier store. True if any
/// has a slot to receive into.
bool StoreService::place(const wire::Store& request, Active& store, Claims& claims) {
  bool any = false;
  for (std::size_t i = 0; i < request.items.size(); ++i) {
    const wire::StoreItem& item = request.items[i];
    if (const auto known = data_.table.find(item.meta)) {
      if (known->published) {
        store.statuses[i] = ItemStatus::duplicate;
      } else {
        watch(known->at, store, i, true);
      }
      continue;
    }
    Result<SlotClaim> claim = data_.table.claim(item.length);
    if (claim) {
      claims[i] = *claim;
      any = true;
    } else {
      const bool full = claim.error().code == Errc::out_of_capacity;
      store.statuses[i] = full ? ItemStatus::full : ItemStatus::too_large;
    }
    space_.asked(item.length);
  }
  return any;
}

Task<Result<>> StoreService::receive(PeerId peer, const wire::Store& request, const Claims& claims,
                                     Payload payload, TimePoint deadline) {
  const std::vector<Segment> segments = segments_for(request, claims);
  Timer overdue(data_.loop(), [this, peer] { data_.peers.close(peer); });
  overdue.arm(deadline + kDrain);
  Completion landed(data_.loop().ready());
  data_.fabric.receive(std::move(payload), segments, landed);
  const Result<> outcome = co_await landed;
  co_return outcome;
}

std::vector<Segment> StoreService::segments_for(const wire::Store& request, const Claims& claims) {
  std::vector<Segment> segments;
  for (std::size_t i = 0; i < request.items.size(); ++i) {
    if (claims[i]) {
      segments.push_back({claims[i]->memory.data(), claims[i]->memory.size(), data_.region});
      continue;
    }
    scratch_.resize(kScratchBytes);
    for (std::size_t left = request.items[i].length; left > 0;) {
      const std::size_t size = std::min(left, kScratchBytes);
      segments.push_back({scratch_.data(), size, nullptr});
      left -= size;
    }
  }
  return segments;
}

void StoreService::seal(const wire::Store& request, const Claims& claims,
                        const std::vector<Checksum>& sums, Active& store) {
  std::vector<wire::SlotEntry> sealed;
  for (std::size_t i = 0; i < claims.size(); ++i) {
    if (!claims[i]) continue;
    const SlotClaim& claim = *claims[i];
    const wire::BlockMeta& meta = request.items[i].meta;
    const Checksum sum = sums[i];
    NodeCounters::add(data_.counters.bytes_in, claim.memory.size());
    if (sum != request.items[i].checksum) {
      data_.table.abandon(claim);
      store.statuses[i] = ItemStatus::corrupt;
      continue;
    }
    const BlockTable::Sealed at = data_.table.seal(claim, meta, sum);
    if (at.published) {
      store.statuses[i] = ItemStatus::duplicate;
      continue;
    }
    watch(at.at, store, i, !at.fresh);
    if (!at.fresh) continue;
    sealed.push_back({.meta = meta,
                      .slot = at.at.slot,
                      .generation = at.at.generation,
                      .length = request.items[i].length,
                      .slot_bytes = claim.slot.slot_bytes,
                      .checksum = sum});
  }
  announcers_.sealed(std::move(sealed));
}

void StoreService::watch(const SlotRef& at, Active& store, std::size_t item, bool joined) {
  waiting_.emplace(at.slot.value, Waiting{at.generation, &store, item, joined});
  ++store.left;
}

void StoreService::unwatch(const Active& store) {
  if (store.left == 0) return;
  std::erase_if(waiting_, [&](const auto& entry) { return entry.second.store == &store; });
}

void StoreService::settle(const SlotRef& at, ItemStatus verdict) {
  auto [next, end] = waiting_.equal_range(at.slot.value);
  while (next != end) {
    const Waiting& waiting = next->second;
    if (waiting.generation != at.generation) {
      ++next;
      continue;
    }
    Active& store = *waiting.store;
    const bool good = verdict == ItemStatus::ok && waiting.joined;
    store.statuses[waiting.item] = good ? ItemStatus::duplicate : verdict;
    if (--store.left == 0) store.news.end();
    next = waiting_.erase(next);
  }
}

void StoreService::on_lost(PeerId peer) {
  for (const auto& [name, store] : active_) {
    if (name.first != peer) continue;
    store->over = true;
    store->news.end();
  }
}

void StoreService::stop() {
  stopped_ = true;
  for (const auto& [name, store] : active_) store->news.end();
}

void StoreService::answer(PeerId peer, OpId op, std::vector<ItemStatus> statuses) {
  for (const ItemStatus status : statuses) {
    NodeCounters::add(data_.counters.store_items[static_cast<std::size_t>(status)]);
  }
  const wire::Stored stored{std::move(statuses)};
  std::vector<std::byte> frame;
  // A peer that is gone needs no answer.
  static_cast<void>(data_.fabric.send(peer, wire::write_frame(frame, data_.header(op), stored)));
}

}  // namespace membrain
