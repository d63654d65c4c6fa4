#include "cache/client/reserve.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <utility>

#include "cache/client/block_meta.h"
#include "cache/client/mapped_fetch.h"
#include "cache/client/slot_return.h"
#include "cache/client/store_exchange.h"

namespace membrain {

using wire::ItemStatus;

namespace {

using Numbers = std::vector<std::size_t>;  ///< of items

/// One call of `reserve_blocks`.
class Reserving {
 public:
  Reserving(NodeLinks& links, ReserveJob job) : links_(links), job_(std::move(job)) {
    reservations_.resize(job_.items.size());
  }
  Task<std::vector<Reservation>> run();

 private:
  Task<> skip_known(std::vector<bool>& known);
  Task<> reserve_at(std::shared_ptr<const WritableArena> arena, Numbers numbers);
  void take(const std::shared_ptr<const WritableArena>& arena, std::size_t item,
            const wire::ReservedItem& got);

  NodeLinks& links_;
  ReserveJob job_;
  std::vector<Reservation> reservations_;
};

Task<std::vector<Reservation>> Reserving::run() {
  std::vector<bool> known(job_.items.size());
  Task<> skipping = skip_known(known);
  co_await skipping;
  std::vector<NodeView> places = links_.places();
  for (NodeView& place : places) place.usable = place.usable && place.same_host;
  std::map<NodeId, Numbers> shares;
  for (std::size_t i = 0; i < job_.items.size(); ++i) {
    const NodeId node = choose_node(places, job_.keys->key(job_.items[i].hash), NodeId{});
    if (node && !known[i]) shares[node].push_back(i);
  }
  for (auto& [node, share] : shares) {
    Task<std::shared_ptr<const WritableArena>> opening = job_.writable(node);
    const std::shared_ptr<const WritableArena> arena = co_await opening;
    if (!arena) continue;
    for (std::size_t at = 0; at < share.size(); at += wire::kMaxReserveItems) {
      const auto from = share.begin() + static_cast<std::ptrdiff_t>(at);
      const std::size_t count = std::min(wire::kMaxReserveItems, share.size() - at);
      Numbers part(from, from + static_cast<std::ptrdiff_t>(count));
      Task<> reserved = reserve_at(arena, std::move(part));
      co_await reserved;
    }
  }
  co_return std::move(reservations_);
}

Task<> Reserving::skip_known(std::vector<bool>& known) {
  std::vector<wire::PartName> parts;
  for (const ReserveItem& item : job_.items) {
    parts.push_back({job_.keys->key(item.hash), item.part});
  }
  PartProbe probe(links_.loop().ready(), NamespaceId{job_.space.id}, Era{job_.space.era}, parts);
  probe.ask(job_.ask_parts, std::min(job_.deadline, links_.loop().now() + Storing::kProbePatience));
  Completion& answered = probe.answered();
  const Result<> outcome = co_await answered;
  if (!outcome) co_return;
  for (std::size_t i = 0; i < job_.items.size(); ++i) {
    known[i] = probe.known(i);
    if (known[i]) reservations_[i] = Reservation::refused(true, Errc::unavailable);
  }
}

Task<> Reserving::reserve_at(std::shared_ptr<const WritableArena> arena, Numbers numbers) {
  wire::ReserveSlots message;
  message.proof = job_.proof;
  message.writer = arena->writer();
  for (const std::size_t i : numbers) {
    message.items.push_back({meta_of(job_.space, *job_.keys, job_.items[i]), job_.items[i].size});
  }
  StoreExchange exchange(links_, arena, std::move(message), job_.deadline);
  Task<StoreAnswer> exchanging = exchange.run();
  const StoreAnswer answer = co_await exchanging;
  if (!answer.outcome) co_return;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    take(arena, numbers[i], answer.reserved.items[i]);
  }
  give_back_idle(links_, *arena, answer.reserved.lost);
}

void Reserving::take(const std::shared_ptr<const WritableArena>& arena, std::size_t item,
                     const wire::ReservedItem& got) {
  if (got.status != ItemStatus::ok) {
    const ItemOutcome outcome = outcome_of(got.status);
    reservations_[item] = Reservation::refused(outcome.duplicate, outcome.why);
    return;
  }
  const std::span<std::byte> bytes = arena->bytes(got.at, job_.items[item].size);
  if (bytes.empty()) return give_back(links_, *arena, {got.at});
  arena->prepare(bytes);
  auto state = std::make_unique<Reservation::State>();
  state->desk = job_.desk;
  state->held = {arena, got.at};
  state->size = job_.items[item].size;
  reservations_[item] = Reservation(std::move(state));
}

/// What one node's arena is to keep, as one message says it.
struct SealShare {
  std::shared_ptr<const WritableArena> arena;
  wire::SealSlots message;
  Numbers numbers;
  std::vector<wire::SlotRef> slots;
};

std::vector<SealShare> shares_of(SealJob& job, TransferReport& report) {
  std::vector<SealShare> shares;
  for (std::size_t i = 0; i < job.blocks.size(); ++i) {
    const WrittenBlock& block = job.blocks[i];
    if (!block.slot) {
      report.items[i].why = Errc::invalid_argument;
      continue;
    }
    const HeldSlot& held = block.slot->held;
    auto share = std::find_if(shares.begin(), shares.end(), [&](const SealShare& one) {
      return one.arena == held.arena && one.slots.size() < wire::kMaxReserveItems;
    });
    if (share == shares.end()) {
      share = shares.insert(shares.end(), SealShare{held.arena, {}, {}, {}});
      share->message.proof = job.proof;
      share->message.writer = held.arena->writer();
    }
    share->message.items.push_back({held.at, block.checksum});
    share->numbers.push_back(i);
    share->slots.push_back(held.at);
  }
  return shares;
}

void settle(const SealShare& share, const StoreAnswer& answer, SealJob& job,
            TransferReport& report) {
  for (std::size_t i = 0; i < share.numbers.size(); ++i) {
    const std::size_t item = share.numbers[i];
    Reservation::State& slot = *job.blocks[item].slot;
    slot.held = {};  // sealed, or the node takes it back
    if (!answer.outcome) {
      const Errc why = answer.outcome.error().code;
      report.items[item].why = why == Errc::peer_lost ? Errc::unavailable : why;
      continue;
    }
    report.items[item] = outcome_of(answer.statuses[i]);
    if (answer.statuses[i] != ItemStatus::ok) continue;
    report.bytes += slot.size;
    report.lane_bytes[kMappedLane] += slot.size;
  }
}

}  // namespace

Result<> check_reserve(std::span<const ReserveItem> items) noexcept {
  for (const ReserveItem& item : items) {
    if (item.hash.empty()) return fail(Errc::invalid_argument, "a block to store has no hash");
    if (item.part >= wire::kMaxParts) return fail(Errc::invalid_argument, "no such part");
    if (item.size == 0) return fail(Errc::invalid_argument, "a block to store has no bytes");
  }
  return {};
}

Task<std::vector<Reservation>> reserve_blocks(NodeLinks& links, ReserveJob job) {
  Reserving reserving(links, std::move(job));
  Task<std::vector<Reservation>> running = reserving.run();
  co_return co_await running;
}

Task<TransferReport> seal_blocks(NodeLinks& links, SealJob job) {
  SealJob sealed = std::move(job);
  TransferReport report;
  report.items.resize(sealed.blocks.size());
  std::vector<SealShare> shares = shares_of(sealed, report);
  for (SealShare& share : shares) {
    StoreExchange exchange(links, share.arena->node(), std::move(share.message), sealed.deadline);
    Task<StoreAnswer> exchanging = exchange.run();
    const StoreAnswer answer = co_await exchanging;
    end_lent(links, *share.arena, std::move(share.slots), answer);
    settle(share, answer, sealed, report);
  }
  co_return std::move(report);
}

}  // namespace membrain
