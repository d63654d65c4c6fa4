#include "cache/node/fetch_service.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "cache/node/fetch_answer.h"

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
  Active(FetchService& service, const Name& named) : in(service), name(named) {
    in.active_.push_back(this);
  }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;
  ~Active() { std::erase(in.active_, this); }

  FetchService& in;
  Name name;
  bool cancelled = false;
};

FetchService::Batch::Batch() {
  message.items.reserve(wire::kMaxDataItems);
  frame.reserve(Fabric::kMaxFrameWithPayloadBytes);
  segments.reserve(wire::kMaxDataItems);
  reads.reserve(wire::kMaxDataItems);
}

FetchService::FetchService(DataLoop& data, FetchLimits limits,
                           std::function<void(const wire::SlotRef&)> doubt)
    : data_(data), limits_(limits), doubt_(std::move(doubt)) {}

FetchService::~FetchService() {
  check(active_.empty(), "a fetch service was destroyed under a fetch");
}

FetchService::Active* FetchService::find(const Name& name) const noexcept {
  const auto same = [&name](const Active* fetch) { return fetch->name == name; };
  const auto found = std::find_if(active_.begin(), active_.end(), same);
  return found == active_.end() ? nullptr : *found;
}

bool FetchService::on_fetch(PeerId peer, OpId op, std::span<const std::byte> body) {
  Requests::Lease request = requests_.take();
  if (!wire::read_body_into(body, *request)) return false;
  if (find({peer, op}) != nullptr) return true;  // repeated
  NodeCounters::add(data_.counters.fetches);
  ItemStatus verdict = data_.authority.check(request->proof);
  const bool shed = stopped_ || active_.size() >= limits_.max_fetches;
  if (verdict == ItemStatus::ok && shed) verdict = ItemStatus::unavailable;
  if (verdict != ItemStatus::ok) {
    answer({peer, op}, request->items, verdict);
  } else {
    data_.loop().spawn(serve({peer, op}, std::move(request)));
  }
  return true;
}

Task<> FetchService::serve(Name name, Requests::Lease request) {
  Active fetch(*this, name);
  const Duration asked = std::chrono::milliseconds(request->deadline_ms);
  const TimePoint deadline = data_.loop().now() + std::min(asked, limits_.longest);
  const PeerId peer = name.first;
  Timer overdue(data_.loop(), [this, peer] { data_.peers.close(peer); });
  overdue.arm(deadline + kDrain);
  CreditWindow window(data_.loop().ready(), kWindowBytes);
  std::span<const FetchItem> rest = request->items;
  while (!rest.empty()) {
    const auto [count, bytes] = first_batch(rest);
    const std::uint64_t credits = std::max(bytes, kWindowBytes / kWindowMessages);
    co_await window.take(credits);
    if (fetch.cancelled || data_.loop().now() >= deadline) {
      window.give(credits);
      break;
    }
    Batches::Lease batch = open(rest.first(count));
    rest = rest.subspan(count);
    if (batch->segments.empty()) {
      send_frame(fetch.name, batch->message);
      window.give(credits);
    } else {
      data_.loop().spawn(send(fetch, std::move(batch), credits, window));
    }
  }
  answer(fetch.name, rest, ItemStatus::cancelled);
  co_await window.take(kWindowBytes);  // all has been sent, or has failed
  window.give(kWindowBytes);
}

Task<> FetchService::send(Active& fetch, Batches::Lease batch, std::uint64_t credits,
                          CreditWindow& window) {
  wire::write_frame(batch->frame, data_.header(fetch.name.second), batch->message);
  Completion sent(data_.loop().ready());
  data_.fabric.send(fetch.name.first, batch->frame, batch->segments, sent);
  const Result<> outcome = co_await sent;
  for (const wire::SlotRef& read : batch->reads) data_.table.close_read(read);
  if (outcome) {
    NodeCounters::add(data_.counters.bytes_out, batch->bytes);
  } else {
    fetch.cancelled = true;
  }
  window.give(credits);
}

FetchService::Batches::Lease FetchService::open(std::span<const FetchItem> items) {
  Batches::Lease lease = batches_.take();
  Batch& batch = *lease;
  batch.message.items.clear();
  batch.segments.clear();
  batch.reads.clear();
  batch.bytes = 0;
  for (const FetchItem& item : items) {
    std::span<std::byte> bytes;
    const ItemStatus status = data_.table.open_read(item, bytes);
    NodeCounters::add(data_.counters.fetch_items[static_cast<std::size_t>(status)]);
    const auto length = static_cast<std::uint32_t>(bytes.size());
    batch.message.items.push_back({item.tag, status, length});
    if (status == ItemStatus::corrupt) doubt_({item.slot, item.generation});
    if (status != ItemStatus::ok) continue;
    batch.segments.push_back({bytes.data(), bytes.size(), data_.region});
    batch.reads.push_back({item.slot, item.generation});
    batch.bytes += bytes.size();
  }
  return lease;
}

void FetchService::on_cancel(PeerId peer, OpId fetch) {
  if (Active* found = find({peer, fetch})) found->cancelled = true;
}

void FetchService::on_lost(PeerId peer) {
  for (Active* fetch : active_) {
    if (fetch->name.first == peer) fetch->cancelled = true;
  }
}

void FetchService::stop() {
  stopped_ = true;
  for (Active* fetch : active_) fetch->cancelled = true;
}

/// All `items` with one status and no bytes.
void FetchService::answer(const Name& to, std::span<const FetchItem> items, ItemStatus status) {
  NodeCounters::add(data_.counters.fetch_items[static_cast<std::size_t>(status)], items.size());
  answer_items(data_.fabric, to.first, data_.header(to.second), items, status);
}

void FetchService::send_frame(const Name& to, const wire::Data& message) {
  // A peer that is gone needs no answer.
  static_cast<void>(
      data_.fabric.send(to.first, wire::write_frame(frame_, data_.header(to.second), message)));
}

}  // namespace membrain
