#include "cache/node/fetch_service.h"

#include <algorithm>
#include <optional>

#include "base/check.h"

namespace membrain {

using wire::FetchItem;
using wire::ItemStatus;

namespace {

/// How many of the first items go together, and the bytes asked for (at most the window's).
std::pair<std::size_t, std::uint64_t> first_batch(std::span<const FetchItem> items) {
  std::size_t count = 0;
  std::uint64_t bytes = 0;
  for (const FetchItem& item : items) {
    const bool alone = item.length >= FetchService::kSoloBytes;
    const bool fits =
        count < wire::kMaxDataItems && !alone && bytes + item.length <= FetchService::kBatchBytes;
    if (count > 0 && !fits) break;
    ++count;
    bytes += item.length;
    if (alone) break;
  }
  return {count, std::min(bytes, FetchService::kWindowBytes)};
}

}  // namespace

/// A Fetch under way; lives in its coroutine.
struct FetchService::Active {
  Active(FetchService& service, PeerId peer, OpId op) : in(service), name(peer, op) {
    in.active_.emplace(name, this);
  }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;
  ~Active() { in.active_.erase(name); }

  FetchService& in;
  Name name;
  bool cancelled = false;
};

FetchService::FetchService(DataLoop& data, FetchLimits limits) : data_(data), limits_(limits) {}

FetchService::~FetchService() {
  check(active_.empty(), "a fetch service was destroyed under a fetch");
}

void FetchService::on_fetch(PeerId peer, OpId op, wire::Fetch request) {
  if (active_.contains({peer, op})) return;  // repeated
  NodeCounters::add(data_.counters.fetches);
  ItemStatus verdict = data_.authority.check(request.proof);
  const bool shed = stopped_ || active_.size() >= limits_.max_fetches;
  if (verdict == ItemStatus::ok && shed) verdict = ItemStatus::unavailable;
  if (verdict != ItemStatus::ok) return answer({peer, op}, request.items, verdict);
  data_.loop().spawn(serve(peer, op, std::move(request)));
}

Task<> FetchService::serve(PeerId peer, OpId op, wire::Fetch request) {
  Active fetch(*this, peer, op);
  const Duration asked = std::chrono::milliseconds(request.deadline_ms);
  const TimePoint deadline = data_.loop().now() + std::min(asked, limits_.longest);
  Timer overdue(data_.loop(), [this, peer] { data_.peers.close(peer); });
  overdue.arm(deadline + kDrain);
  CreditWindow window(data_.loop().ready(), kWindowBytes);
  std::span<const FetchItem> rest = request.items;
  while (!rest.empty()) {
    const auto [count, bytes] = first_batch(rest);
    const std::uint64_t credits = std::max(bytes, kWindowBytes / kWindowMessages);
    co_await window.take(credits);
    if (fetch.cancelled || data_.loop().now() >= deadline) {
      window.give(credits);
      break;
    }
    Batch batch = open(rest.first(count));
    rest = rest.subspan(count);
    if (batch.segments.empty()) {
      send_frame(fetch.name, batch.message);
      window.give(credits);
    } else {
      data_.loop().spawn(send(fetch, std::move(batch), credits, window));
    }
  }
  answer(fetch.name, rest, ItemStatus::cancelled);
  co_await window.take(kWindowBytes);  // all has been sent, or has failed
  window.give(kWindowBytes);
}

Task<> FetchService::send(Active& fetch, Batch batch, std::uint64_t credits, CreditWindow& window) {
  std::vector<std::byte> frame;
  wire::write_frame(frame, data_.header(fetch.name.second), batch.message);
  Completion sent(data_.loop().ready());
  data_.fabric.send(fetch.name.first, frame, batch.segments, sent);
  const Result<> outcome = co_await sent;
  for (const wire::SlotRef& read : batch.reads) data_.table.close_read(read);
  if (outcome) {
    NodeCounters::add(data_.counters.bytes_out, batch.bytes);
  } else {
    fetch.cancelled = true;
  }
  window.give(credits);
}

FetchService::Batch FetchService::open(std::span<const FetchItem> items) {
  Batch batch;
  for (const FetchItem& item : items) {
    std::span<std::byte> bytes;
    const ItemStatus status = data_.table.open_read(item, bytes);
    NodeCounters::add(data_.counters.fetch_items[static_cast<std::size_t>(status)]);
    const auto length = static_cast<std::uint32_t>(bytes.size());
    batch.message.items.push_back({item.tag, status, length});
    if (status != ItemStatus::ok) continue;
    batch.segments.push_back({bytes.data(), bytes.size(), data_.region});
    batch.reads.push_back({item.slot, item.generation});
    batch.bytes += bytes.size();
  }
  return batch;
}

void FetchService::on_cancel(PeerId peer, OpId fetch) {
  const auto found = active_.find({peer, fetch});
  if (found != active_.end()) found->second->cancelled = true;
}

void FetchService::on_lost(PeerId peer) {
  for (const auto& [name, fetch] : active_) {
    if (name.first == peer) fetch->cancelled = true;
  }
}

void FetchService::stop() {
  stopped_ = true;
  for (const auto& [name, fetch] : active_) fetch->cancelled = true;
}

/// All `items` with one status and no bytes.
void FetchService::answer(const Name& to, std::span<const FetchItem> items, ItemStatus status) {
  NodeCounters::add(data_.counters.fetch_items[static_cast<std::size_t>(status)], items.size());
  while (!items.empty()) {
    wire::Data message;
    const std::size_t count = std::min(items.size(), wire::kMaxDataItems);
    for (const FetchItem& item : items.first(count)) message.items.push_back({item.tag, status, 0});
    send_frame(to, message);
    items = items.subspan(count);
  }
}

void FetchService::send_frame(const Name& to, const wire::Data& message) {
  std::vector<std::byte> frame;
  // A peer that is gone needs no answer.
  static_cast<void>(
      data_.fabric.send(to.first, wire::write_frame(frame, data_.header(to.second), message)));
}

}  // namespace membrain
