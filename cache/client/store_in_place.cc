// The part of a store that is written straight into an arena of this host.
#include <algorithm>
#include <utility>

#include "base/copy.h"
#include "cache/client/block_meta.h"
#include "cache/client/mapped_fetch.h"
#include "cache/client/slot_return.h"
#include "cache/client/store.h"
#include "transport/next_turn.h"

namespace membrain {

using wire::ItemStatus;

Task<Storing::Batch> Storing::store_in_place(std::shared_ptr<const WritableArena> arena,
                                             Batch batch) {
  if (cancelled_ || late()) co_return std::move(batch);
  std::vector<Placed> placed;
  Batch rest;
  Task<> reserving = reserve(arena, batch, placed, rest);
  co_await reserving;
  Task<> filling = fill(*arena, placed);
  co_await filling;
  if (cancelled_) {
    std::vector<wire::SlotRef> slots;
    for (const Placed& block : placed) {
      slots.push_back(block.at);
      rest.push_back(block.item);
    }
    give_back(links_, *arena, std::move(slots));
  } else if (!placed.empty()) {
    Task<> sealing = seal(arena, placed, rest);
    co_await sealing;
  }
  co_return std::move(rest);
}

/// Slots for a batch. What is there already ends; what got none is `rest`.
Task<> Storing::reserve(std::shared_ptr<const WritableArena> arena, const Batch& batch,
                        std::vector<Placed>& placed, Batch& rest) {
  wire::ReserveSlots message;
  message.proof = job_.proof;
  message.writer = arena->writer();
  message.items.reserve(batch.size());
  for (const std::size_t item : batch)
    message.items.push_back({meta_of(job_.space, *job_.keys, job_.list.items[item]), length(item)});
  StoreExchange exchange(links_, arena, std::move(message), job_.deadline);
  Task<StoreAnswer> exchanging = exchange_with(exchange);
  const StoreAnswer answer = co_await exchanging;
  if (!answer.outcome) {
    rest = batch;
    co_return;
  }
  give_back_idle(links_, *arena, answer.reserved.lost);
  std::vector<wire::SlotRef> unusable;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const wire::ReservedItem& got = answer.reserved.items[i];
    if (got.status == ItemStatus::duplicate) {
      end(batch[i], {.ok = true, .duplicate = true});
    } else if (got.status != ItemStatus::ok) {
      rest.push_back(batch[i]);
    } else if (arena->bytes(got.at, length(batch[i])).empty()) {
      rest.push_back(batch[i]);
      unusable.push_back(got.at);
    } else {
      placed.push_back({batch[i], got.at});
    }
  }
  if (!unusable.empty()) give_back(links_, *arena, std::move(unusable));
}

Task<> Storing::fill(const WritableArena& arena, const std::vector<Placed>& placed) {
  co_await hashing_.take(1);
  for (const Placed& block : placed) {
    if (cancelled_) break;
    Task<> copied = copy(block.item, arena, arena.bytes(block.at, length(block.item)));
    co_await copied;
  }
  hashing_.give(1);
}

/// Copies a block, and makes `sums_[item]` of the bytes that it delivers if that is not known.
Task<> Storing::copy(std::size_t item, const WritableArena& arena, std::span<std::byte> into) {
  arena.prepare(into);
  const CopyWay way = copy_way(into.size());
  HashedCopy hashed(way);
  std::byte* to = into.data();
  for (std::uint64_t at = 0; at < into.size();) {
    if (hashed_bytes_ >= kHashSlice) {
      co_await next_turn(links_.loop().ready());
      hashed_bytes_ = 0;
    }
    const std::uint64_t slice = std::min(into.size() - at, kHashSlice - hashed_bytes_);
    places_[item].for_each_piece(at, slice, [&](const std::byte* data, std::size_t size) {
      if (sums_[item]) {
        copy_run(to, {data, size}, way);
      } else {
        hashed.add(to, {data, size});
      }
      to += size;
    });
    at += slice;
    hashed_bytes_ += slice;
  }
  if (sums_[item]) {
    fence_streams();
  } else {
    sums_[item] = hashed.finish();
  }
}

/// What was written becomes blocks. What was lost meanwhile is `rest`.
Task<> Storing::seal(std::shared_ptr<const WritableArena> arena, const std::vector<Placed>& placed,
                     Batch& rest) {
  wire::SealSlots message;
  message.proof = job_.proof;
  message.writer = arena->writer();
  std::vector<wire::SlotRef> slots;
  for (const Placed& block : placed) {
    message.items.push_back({block.at, *sums_[block.item]});
    slots.push_back(block.at);
  }
  StoreExchange exchange(links_, arena->node(), std::move(message), job_.deadline);
  Task<StoreAnswer> exchanging = exchange_with(exchange);
  StoreAnswer answer = co_await exchanging;
  end_lent(links_, *arena, std::move(slots), answer);
  Batch sealed;
  std::vector<ItemStatus> statuses;
  for (std::size_t i = 0; i < placed.size(); ++i) {
    const bool lost = answer.outcome && answer.statuses[i] == ItemStatus::stale;
    (lost ? rest : sealed).push_back(placed[i].item);
    if (answer.outcome && !lost) statuses.push_back(answer.statuses[i]);
  }
  answer.statuses = std::move(statuses);
  answer.lane = kMappedLane;
  settle(arena->node(), sealed, answer);
}

}  // namespace membrain
