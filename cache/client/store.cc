#include "cache/client/store.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/checksum.h"
#include "cache/client/block_meta.h"
#include "cache/memory/straight.h"
#include "transport/next_turn.h"

namespace membrain {

namespace {

/// Bytes of a block's pieces; 0 if they cannot be one block.
std::uint32_t length_of(std::span<const ConstPiece> pieces) noexcept {
  std::uint64_t bytes = 0;
  for (const ConstPiece& piece : pieces) {
    if (piece.data == nullptr && piece.size != 0) return 0;
    if (piece.size > std::numeric_limits<std::uint32_t>::max() - bytes) return 0;
    bytes += piece.size;
  }
  return static_cast<std::uint32_t>(bytes);
}

}  // namespace

ItemOutcome outcome_of(wire::ItemStatus status) noexcept {
  switch (status) {
    case wire::ItemStatus::ok:
      return {.ok = true};
    case wire::ItemStatus::duplicate:
      return {.ok = true, .duplicate = true};
    case wire::ItemStatus::full:
      return {.why = Errc::out_of_capacity};
    case wire::ItemStatus::too_large:
      return {.why = Errc::invalid_argument};
    case wire::ItemStatus::old_era:
    case wire::ItemStatus::stale:
      return {.why = Errc::stale};
    case wire::ItemStatus::denied:
      return {.why = Errc::denied};
    case wire::ItemStatus::cancelled:
      return {.why = Errc::timed_out};
    case wire::ItemStatus::corrupt:
      return {.why = Errc::corrupt};
    case wire::ItemStatus::not_found:
    case wire::ItemStatus::unavailable:
    case wire::ItemStatus::refused:
      break;
  }
  return {.why = Errc::unavailable};
}

Storing::Storing(NodeLinks& links, StoreJob job)
    : links_(links),
      job_(std::move(job)),
      hashing_(links.loop().ready(), 1),
      workers_(links.loop().ready()) {}

Task<Result<TransferReport>> Storing::run() {
  const Result<> planned = plan();
  if (!planned) {
    workers_.finish({});
    co_return fail(planned.error());
  }
  if (job_.cancel) job_.cancel->on_request([this] { cancel(); });
  if (job_.cancel && job_.cancel->requested()) cancelled_ = true;
  Task<> skipping = skip_known();
  co_await skipping;
  std::vector<std::size_t> items;
  items.reserve(job_.list.items.size());
  for (std::size_t i = 0; i < job_.list.items.size(); ++i) {
    if (!known_[i]) items.push_back(i);
  }
  launch(items, NodeId{});
  workers_.finish({});
  const Result<> ended = co_await workers_;
  if (job_.cancel) job_.cancel->on_request(nullptr);
  if (!ended) co_return fail(ended.error());
  if (cancelled_) co_return fail(Errc::cancelled, "the store was taken back");
  co_return std::move(report_);
}

Result<> check_store(const StoreList& list) noexcept {
  for (const StoreItem& item : list.items) {
    if (item.hash.empty()) return fail(Errc::invalid_argument, "a block to store has no hash");
    if (item.part >= wire::kMaxParts) return fail(Errc::invalid_argument, "no such part");
    if (!list.layout && length_of(item.from) == 0) {
      return fail(Errc::invalid_argument, "a block to store has no bytes, or too many");
    }
  }
  return {};
}

Result<> Storing::plan() {
  if (const Result<> fine = check_store(job_.list); !fine) return fine;
  places_.reserve(job_.list.items.size());
  for (std::size_t i = 0; i < job_.list.items.size(); ++i) places_.push_back(job_.list.place(i));
  sums_.resize(job_.list.items.size());
  if (job_.list.device) sums_.assign(job_.list.device->sums.begin(), job_.list.device->sums.end());
  moved_.resize(job_.list.items.size());
  known_.resize(job_.list.items.size());
  report_.items.resize(job_.list.items.size());
  return {};
}

BlockKey Storing::key_of(std::size_t item) const {
  return job_.keys->key(job_.list.items[item].hash);
}

// ---- hashing and asking

Task<> Storing::hash_batch(const Batch& batch) {
  co_await hashing_.take(1);
  for (const std::size_t item : batch) {
    if (sums_[item] || cancelled_ || late()) continue;
    Task<> hashed = hash(item);
    co_await hashed;
  }
  hashing_.give(1);
}

Task<> Storing::hash(std::size_t item) {
  ChecksumStream stream;
  const std::uint64_t bytes = length(item);
  for (std::uint64_t at = 0; at < bytes;) {
    if (hashed_bytes_ >= kHashSlice) {
      co_await next_turn(links_.loop().ready());
      hashed_bytes_ = 0;
    }
    const std::uint64_t slice = std::min(bytes - at, kHashSlice - hashed_bytes_);
    if (slice == bytes) {
      sums_[item] = checksum_of(places_[item]);  // one slice needs no stream
    } else {
      places_[item].for_each_piece(at, slice, [&](const std::byte* data, std::size_t size) {
        stream.add({data, size});
      });
    }
    at += slice;
    hashed_bytes_ += slice;
  }
  if (!sums_[item]) sums_[item] = stream.finish();
}

Task<> Storing::skip_known() {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < places_.size(); ++i) bytes += length(i);
  if (bytes < job_.probe_bytes || cancelled_) co_return;
  PartProbe probe(links_.loop().ready(), NamespaceId{job_.space.id}, Era{job_.space.era}, parts());
  probe.ask(job_.ask_parts, std::min(job_.deadline, links_.loop().now() + kProbePatience));
  Completion& answered = probe.answered();
  for (std::size_t i = 0; i < places_.size() && !answered.done() && !cancelled_; ++i) {
    Task<> hashed = hash(i);
    co_await hashed;
  }
  const Result<> outcome = co_await answered;
  if (!outcome || cancelled_) co_return;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    if (!probe.known(i)) continue;
    known_[i] = true;
    end(i, {.ok = true, .duplicate = true});
  }
}

std::vector<wire::PartName> Storing::parts() const {
  std::vector<wire::PartName> parts;
  parts.reserve(job_.list.items.size());
  for (std::size_t i = 0; i < job_.list.items.size(); ++i) {
    parts.push_back({key_of(i), job_.list.items[i].part});
  }
  return parts;
}

// ---- moving

/// Shares items out over the nodes, but for `avoid`, and starts the workers that send them.
void Storing::launch(const std::vector<std::size_t>& items, NodeId avoid) {
  const std::vector<NodeView> places = links_.places();
  std::map<NodeId, std::vector<std::size_t>> shares;
  for (const std::size_t item : items) {
    const NodeId node = cancelled_ ? NodeId{} : choose_node(places, key_of(item), avoid);
    if (node) {
      shares[node].push_back(item);
    } else {
      end(item, {.why = cancelled_ ? Errc::cancelled : Errc::unavailable});
    }
  }
  workers_.expect(static_cast<std::uint32_t>(shares.size()));
  for (auto& [node, share] : shares) links_.loop().spawn(open_lane(node, std::move(share)));
}

Task<> Storing::open_lane(NodeId node, std::vector<std::size_t> items) {
  const auto lane = std::make_shared<Lane>();
  lane->node = node;
  if (job_.writable && !job_.list.device) {
    Task<std::shared_ptr<const WritableArena>> opening = job_.writable(node);
    lane->arena = co_await opening;
  }
  lane->batches = batches_of(items, lane->arena ? Way::in_place : Way::sent);
  const std::size_t workers = std::min(kWindow, lane->batches.size());
  workers_.expect(static_cast<std::uint32_t>(workers));
  for (std::size_t i = 0; i < workers; ++i) links_.loop().spawn(work(lane));
  workers_.finish({});
}

std::deque<Storing::Batch> Storing::batches_of(const std::vector<std::size_t>& items,
                                               Way way) const {
  const bool sent = way == Way::sent;
  const std::uint64_t most_bytes = sent ? kBatchBytes : kInPlaceBytes;
  const std::size_t most_items = sent ? wire::kMaxStoreItems : wire::kMaxReserveItems;
  std::deque<Batch> batches;
  std::uint64_t bytes = 0;
  bool open = false;  // the last batch takes more
  for (const std::size_t item : items) {
    const bool alone = sent && (length(item) >= kAloneBytes || job_.list.device);
    if (alone || !open || bytes + length(item) > most_bytes ||
        batches.back().size() == most_items) {
      batches.emplace_back();
      bytes = 0;
    }
    batches.back().push_back(item);
    bytes += length(item);
    open = !alone;
  }
  return batches;
}

Task<> Storing::work(std::shared_ptr<Lane> lane) {
  while (!lane->batches.empty()) {
    Batch batch = std::move(lane->batches.front());
    lane->batches.pop_front();
    if (lane->arena) {
      Task<Batch> placing = store_in_place(lane->arena, std::move(batch));
      batch = co_await placing;
    }
    for (Batch& sent : batches_of(batch, Way::sent)) {
      Task<> stored = store_batch(lane->node, std::move(sent));
      co_await stored;
    }
  }
  workers_.finish({});
}

wire::Store Storing::message_of(const Batch& batch) const {
  wire::Store message;
  message.proof = job_.proof;
  message.items.reserve(batch.size());
  for (const std::size_t item : batch) {
    wire::StoreItem entry;
    entry.meta = meta_of(job_.space, *job_.keys, job_.list.items[item]);
    entry.length = length(item);
    entry.checksum = *sums_[item];
    message.items.push_back(entry);
  }
  return message;
}

Task<> Storing::store_batch(NodeId node, Batch batch) {
  Task<> hashed = hash_batch(batch);
  co_await hashed;
  if (cancelled_ || late()) {
    const Errc why = cancelled_ ? Errc::cancelled : Errc::timed_out;
    for (const std::size_t item : batch) end(item, {.why = why});
    co_return;
  }
  SegmentList payload;
  for (const std::size_t item : batch) add_to(payload, item);
  StoreExchange exchange(links_, node, message_of(batch), std::move(payload), job_.deadline);
  Task<StoreAnswer> exchanged = exchange_with(exchange);
  const StoreAnswer answer = co_await exchanged;
  settle(node, batch, answer);
}

void Storing::add_to(SegmentList& payload, std::size_t item) const {
  if (!job_.list.device) return payload.add(places_[item]);
  places_[item].for_each_piece([&](std::byte* data, std::size_t size) {
    payload.add(Segment{data, size, job_.list.device->region, MemoryKind::cuda});
  });
}

/// The exchange can be taken back meanwhile.
Task<StoreAnswer> Storing::exchange_with(StoreExchange& exchange) {
  if (cancelled_) exchange.stop(Errc::cancelled);
  const auto here = active_.insert(active_.end(), &exchange);
  Task<StoreAnswer> exchanging = exchange.run();
  StoreAnswer answer = co_await exchanging;
  active_.erase(here);
  co_return std::move(answer);
}

/// Ends the items of a batch, or gives them their second node.
void Storing::settle(NodeId node, const Batch& batch, const StoreAnswer& answer) {
  if (!answer.outcome) {
    const Errc why = answer.outcome.error().code;
    std::vector<std::size_t> again;
    for (const std::size_t item : batch) {
      if (why == Errc::peer_lost && !moved_[item]) {
        moved_[item] = true;
        again.push_back(item);
      } else {
        end(item, {.why = why == Errc::peer_lost ? Errc::unavailable : why});
      }
    }
    if (!again.empty()) launch(again, node);
    return;
  }
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const ItemOutcome outcome = outcome_of(answer.statuses[i]);
    if (outcome.ok && !outcome.duplicate) {
      report_.bytes += length(batch[i]);
      const std::string lane(answer.lane);
      report_.lane_bytes[job_.list.device ? straight_lane(lane) : lane] += length(batch[i]);
    }
    end(batch[i], outcome);
  }
}

void Storing::cancel() {
  cancelled_ = true;
  for (StoreExchange* exchange : active_) exchange->stop(Errc::cancelled);
}

void Storing::end(std::size_t item, const ItemOutcome& outcome) {
  report_.items[item] = outcome;
  if (job_.options.on_item) job_.options.on_item(item, outcome);
}

Task<Result<TransferReport>> store_blocks(NodeLinks& links, StoreJob job) {
  Storing storing(links, std::move(job));
  Task<Result<TransferReport>> running = storing.run();
  co_return co_await running;
}

}  // namespace membrain
