#include "cache/client/background_store.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace membrain {

namespace {

using std::memory_order_relaxed;

}  // namespace

BackgroundStore::BackgroundStore(Loop& loop, std::uint64_t max_bytes, Store store,
                                 std::function<bool()> busy, std::function<void()> on_idle)
    : loop_(loop),
      max_bytes_(max_bytes),
      store_(std::move(store)),
      busy_(std::move(busy)),
      on_idle_(std::move(on_idle)),
      aside_(loop.ready()),
      aside_timer_(loop, [this] { aside_.raise(); }) {}

BackgroundStore::~BackgroundStore() {
  check(!running_, "a BackgroundStore was destroyed before it was closed");
}

// ---- any thread

Result<> BackgroundStore::admit(StoreOffer& offer) {
  for (std::size_t i = 0; i < offer.list.items.size(); ++i) offer.bytes += offer.list.bytes(i);
  const std::uint64_t bytes = queued_bytes_.fetch_add(offer.bytes, memory_order_relaxed);
  const std::uint64_t items =
      queued_items_.fetch_add(offer.list.items.size(), memory_order_relaxed);
  if (bytes + offer.bytes > max_bytes_ || items + offer.list.items.size() > kMaxItems) {
    refuse(offer);
    return fail(Errc::out_of_capacity, "the background store is full");
  }
  offer.id = next_id_.fetch_add(1, memory_order_relaxed);
  return {};
}

void BackgroundStore::refuse(const StoreOffer& offer) noexcept {
  queued_bytes_.fetch_sub(offer.bytes, memory_order_relaxed);
  queued_items_.fetch_sub(offer.list.items.size(), memory_order_relaxed);
  shed_.fetch_add(offer.list.items.size(), memory_order_relaxed);
}

BackgroundStats BackgroundStore::stats() const noexcept {
  BackgroundStats stats;
  stats.queued_items = queued_items_.load(memory_order_relaxed);
  stats.queued_bytes = queued_bytes_.load(memory_order_relaxed);
  stats.stored = stored_.load(memory_order_relaxed);
  stats.duplicates = duplicates_.load(memory_order_relaxed);
  stats.shed = shed_.load(memory_order_relaxed);
  stats.failed = failed_.load(memory_order_relaxed);
  return stats;
}

// ---- data loop

void BackgroundStore::take(StoreOffer offer) {
  if (closed_) {
    TransferReport report;
    report.items.assign(offer.list.items.size(), {.why = Errc::cancelled});
    return give_back(offer, report);
  }
  queue_.push_back(std::move(offer));
  if (running_) return;
  running_ = true;
  loop_.spawn(run());
}

void BackgroundStore::withdraw(std::uint64_t id) {
  if (id == current_ && cancel_) return cancel_->request();
  const auto at = std::find_if(queue_.begin(), queue_.end(),
                               [id](const StoreOffer& offer) { return offer.id == id; });
  if (at == queue_.end()) return;
  const StoreOffer offer = std::move(*at);
  queue_.erase(at);
  TransferReport report;
  report.items.assign(offer.list.items.size(), {.why = Errc::cancelled});
  give_back(offer, report);
}

void BackgroundStore::close() {
  closed_ = true;
  aside_.raise();
  while (!queue_.empty()) withdraw(queue_.front().id);
}

Task<> BackgroundStore::run() {
  while (!queue_.empty()) {
    StoreOffer offer = std::move(queue_.front());
    queue_.pop_front();
    Task<> storing = store(std::move(offer));
    co_await storing;
  }
  running_ = false;
  on_idle_();
}

StoreList BackgroundStore::next_chunk(StoreList& list, std::size_t from) {
  std::uint64_t bytes = list.bytes(from);
  std::size_t end = from + 1;
  for (; end < list.items.size(); ++end) {
    bytes += list.bytes(end);
    if (bytes > kChunkBytes) break;
  }
  return list.take(from, end - from);
}

Task<> BackgroundStore::store(StoreOffer offer) {
  StoreOffer taken = std::move(offer);
  TransferReport report;
  report.items.assign(taken.list.items.size(), {.why = Errc::cancelled});
  std::shared_ptr<CancelToken> cancel = std::make_shared<CancelToken>();
  current_ = taken.id;
  cancel_ = cancel;
  for (std::size_t at = 0; at < taken.list.items.size();) {
    Task<> standing = stand_aside();
    co_await standing;
    if (closed_ || cancel->requested()) break;
    StoreList chunk = next_chunk(taken.list, at);
    const std::size_t count = chunk.items.size();
    Task<Result<TransferReport>> storing =
        store_(taken.space, std::move(chunk), taken.memory, cancel);
    const Result<TransferReport> stored = co_await storing;
    for (std::size_t i = 0; i < count; ++i) {
      report.items[at + i] = stored ? stored->items[i] : ItemOutcome{.why = stored.error().code};
    }
    if (stored) {
      report.bytes += stored->bytes;
      for (const auto& [lane, bytes] : stored->lane_bytes) report.lane_bytes[lane] += bytes;
    }
    at += count;
  }
  current_ = 0;
  cancel_ = nullptr;
  give_back(taken, report);
}

Task<> BackgroundStore::stand_aside() {
  const TimePoint until = loop_.now() + kStandAside;
  while (busy_() && !closed_ && loop_.now() < until) {
    aside_timer_.arm(until);
    co_await aside_;
  }
  aside_timer_.cancel();
}

void BackgroundStore::give_back(const StoreOffer& offer, const TransferReport& report) {
  for (const ItemOutcome& item : report.items) {
    std::atomic<std::uint64_t>& counter = !item.ok         ? failed_
                                          : item.duplicate ? duplicates_
                                                           : stored_;
    counter.fetch_add(1, memory_order_relaxed);
  }
  queued_bytes_.fetch_sub(offer.bytes, memory_order_relaxed);
  queued_items_.fetch_sub(offer.list.items.size(), memory_order_relaxed);
  if (offer.done) offer.done(report);
}

}  // namespace membrain
