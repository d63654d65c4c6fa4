#include "cache/node/copy_service.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/check.h"
#include "base/checksum.h"
#include "base/log.h"

namespace membrain {

using wire::ItemStatus;

/// An order under way; lives in its coroutine.
struct CopyService::Run {
  Run(CopyService& service, LinkId on, wire::CopyBlocks from)
      : in(service),
        link(on),
        order(std::move(from)),
        signal(service.data_.loop().ready()),
        timer(service.data_.loop(), [this] { signal.raise(); }) {
    in.runs_.push_back(this);
    for (wire::CopyItem& item : order.items) items.push_back({item, {}, Stage::waiting, {}});
    open = items.size();
    in.copies_ += open;
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() { std::erase(in.runs_, this); }

  CopyService& in;
  LinkId link;
  wire::CopyBlocks order;
  std::vector<Item> items;
  std::size_t open = 0;             ///< items that have not ended
  std::size_t receiving = 0;        ///< payloads
  std::vector<wire::CopyEnd> ends;  ///< not told yet
  PeerId peer;
  OpId op;
  TimePoint asked{};
  TimePoint patience{};  ///< until something must come
  bool over = false;     ///< nothing more is wanted: the connection is lost, or the time is up
  Signal signal;
  Timer timer;
};

CopyService::CopyService(DataLoop& data, Announcers& announcers)
    : data_(data), announcers_(announcers) {}

CopyService::~CopyService() {
  check(runs_.empty(), "a copy service was destroyed under a copy");
}

bool CopyService::known(LinkId link, CopyId copy) const {
  if (ended_.contains({link.number, copy})) return true;
  return std::ranges::any_of(runs_, [&](const Run* run) {
    const auto is = [&](const Item& item) { return item.order.copy == copy; };
    return run->link == link && std::ranges::any_of(run->items, is);
  });
}

void CopyService::on_order(LinkId link, wire::CopyBlocks order) {
  if (stopped_) return;
  std::erase_if(order.items, [&](const wire::CopyItem& item) { return known(link, item.copy); });
  if (order.items.empty()) return;  // repeated
  std::vector<wire::CopyEnd> shed;
  while (!order.items.empty() && copies_ + order.items.size() > kMostCopies) {
    shed.push_back({order.items.back().copy, ItemStatus::unavailable});
    order.items.pop_back();
  }
  if (!shed.empty()) announcers_.copied(link, std::move(shed));
  if (!order.items.empty()) data_.loop().spawn(serve(link, std::move(order)));
}

Task<> CopyService::serve(LinkId link, wire::CopyBlocks order) {
  Run run(*this, link, std::move(order));
  const TimePoint start = data_.loop().now();
  const TimePoint deadline = start + std::chrono::milliseconds(run.order.deadline_ms);
  if (place(run)) {
    Task<> reaching = reach(run);
    co_await reaching;
    run.patience = data_.loop().now() + kPatience;
    if (!run.peer) run.over = true;
  }
  bool closed = false;
  while (run.open > 0 || run.receiving > 0) {
    const TimePoint now = data_.loop().now();
    const TimePoint until = std::min(deadline, run.patience);
    const bool late = now >= until || stopped_;
    run.over = run.over || late;
    if (run.over) give_up(run, late);
    tell(run);
    if (run.open == 0 && run.receiving == 0) break;
    if (run.over && run.receiving > 0 && now >= until + kDrain && !closed) {
      closed = true;
      data_.peers.close(run.peer);
    }
    const bool silent = run.receiving == 0 && !run.over;
    if (silent && (!run.op || now >= run.asked + kResend)) ask(run);
    const TimePoint next = late ? std::max(now, until) + kDrain : until;
    run.timer.arm(run.over ? next : std::min(next, now + kResend));
    co_await run.signal;
  }
  run.timer.cancel();
  tell(run);
}

/// Takes slots. True if there is anything to ask for.
bool CopyService::place(Run& run) {
  bool any = false;
  for (std::size_t i = 0; i < run.items.size(); ++i) {
    Item& item = run.items[i];
    const wire::CopyItem& order = item.order;
    if (const auto here = data_.table.find(order.meta)) {
      end(run, i, here->published ? ItemStatus::duplicate : ItemStatus::unavailable);
    } else if (!data_.table.pool().spare(order.length)) {
      end(run, i, ItemStatus::full);
    } else if (const Result<SlotClaim> claim = data_.table.claim(order.length); claim) {
      item.claim = *claim;
      any = true;
    } else {
      end(run, i, ItemStatus::full);
    }
  }
  return any;
}

/// The connection to the source: the one that is there, or another's that is being made.
Task<> CopyService::reach(Run& run) {
  const std::string address = run.order.address;
  const TimePoint deadline = data_.loop().now() + kConnectTime;
  while (sources_[address].connecting) co_await run.signal;
  if (const PeerId peer = sources_[address].peer) {
    run.peer = peer;
    co_return;
  }
  sources_[address].connecting = true;
  Task<Result<PeerId>> connecting = data_.fabric.connect(address, deadline);
  const Result<PeerId> peer = co_await connecting;
  if (peer) {
    sources_[address] = {*peer, false};
    data_.peers.heard(*peer);
    run.peer = *peer;
  } else {
    log(LogLevel::warn, "node: no copies from node {} at {}: {}", run.order.source.value, address,
        peer.error().context);
    sources_.erase(address);
  }
  wake_all();
}

void CopyService::wake_all() {
  for (Run* run : runs_) run->signal.raise();
}

void CopyService::ask(Run& run) {
  if (!run.op) run.op = OpId{++last_op_};
  run.asked = data_.loop().now();
  wire::Fetch fetch;
  fetch.proof = run.order.proof;
  fetch.deadline_ms = run.order.deadline_ms;
  for (std::size_t i = 0; i < run.items.size(); ++i) {
    if (run.items[i].stage != Stage::waiting) continue;
    const wire::CopyItem& order = run.items[i].order;
    fetch.items.push_back({order.meta.space, order.meta.key, order.meta.part, order.at.slot,
                           order.at.generation, 0, order.length, static_cast<std::uint32_t>(i)});
  }
  if (fetch.items.empty()) return;
  const Result<> sent =
      data_.fabric.send(run.peer, wire::write_frame(frame_, data_.header(run.op), fetch));
  if (!sent) data_.peers.close(run.peer);
}

// ---- what arrives

CopyService::Run* CopyService::find(PeerId peer, OpId op) const noexcept {
  const auto found = std::ranges::find_if(
      runs_, [&](const Run* run) { return op && run->peer == peer && run->op == op; });
  return found == runs_.end() ? nullptr : *found;
}

bool CopyService::on_data(PeerId peer, const wire::Frame& frame, Payload& payload) {
  const Result<wire::Data> message = wire::read_body<wire::Data>(frame.body);
  if (!message) return false;
  Run* const run = find(peer, frame.header.op);
  if (run != nullptr && !run->over) receive(*run, *message, std::move(payload));
  return true;
}

/// Data that does not name this run's own waiting items with exactly their lengths is dropped.
void CopyService::receive(Run& run, const wire::Data& message, Payload payload) {
  std::uint64_t bytes = 0;
  std::unordered_set<std::uint32_t> named;
  for (const wire::DataItem& item : message.items) {
    const bool ok = item.status == ItemStatus::ok;
    const bool waits = item.tag < run.items.size() && named.insert(item.tag).second &&
                       run.items[item.tag].stage == Stage::waiting;
    if (!waits || item.length != (ok ? run.items[item.tag].order.length : 0)) return;
    bytes += item.length;
  }
  if (bytes != payload.size()) return;
  run.patience = data_.loop().now() + kPatience;
  std::vector<std::size_t> coming;
  for (const wire::DataItem& item : message.items) {
    if (item.status == ItemStatus::ok) {
      run.items[item.tag].stage = Stage::receiving;
      coming.push_back(item.tag);
    } else {
      end(run, item.tag, item.status);
    }
  }
  if (!coming.empty()) {
    ++run.receiving;
    data_.loop().spawn(receive(run, std::move(coming), std::move(payload)));
  }
  run.signal.raise();
}

/// From here until `done` the slots belong to the fabric.
Task<> CopyService::receive(Run& run, std::vector<std::size_t> items, Payload payload) {
  std::vector<Segment> segments;
  for (const std::size_t i : items) {
    const std::span<std::byte> memory = run.items[i].claim->memory;
    segments.push_back({memory.data(), memory.size(), data_.region});
  }
  Completion done(data_.loop().ready());
  data_.fabric.receive(std::move(payload), segments, done);
  const Result<> outcome = co_await done;
  std::vector<wire::SlotEntry> sealed;
  for (const std::size_t i : items) {
    if (outcome) {
      landed(run, i, sealed);
    } else {
      end(run, i, ItemStatus::unavailable);
    }
  }
  if (!sealed.empty()) announcers_.sealed(std::move(sealed));
  --run.receiving;
  run.signal.raise();
}

/// Compares, seals, and leaves the rest to the shard.
void CopyService::landed(Run& run, std::size_t index, std::vector<wire::SlotEntry>& sealed) {
  Item& item = run.items[index];
  const wire::CopyItem& order = item.order;
  const SlotClaim claim = *item.claim;
  NodeCounters::add(data_.counters.bytes_in, claim.memory.size());
  if (checksum(claim.memory) != order.checksum) {
    log(LogLevel::warn, "node: a copy from node {} failed its checksum", run.order.source.value);
    suspect(run, order.at);
    return end(run, index, ItemStatus::corrupt);
  }
  item.claim.reset();
  const BlockTable::Sealed at = data_.table.seal(claim, order.meta, order.checksum);
  if (!at.fresh) {
    return end(run, index, at.published ? ItemStatus::duplicate : ItemStatus::unavailable);
  }
  item.stage = Stage::sealed;
  item.at = at.at;
  sealed_[at.at.slot.value] = {at.at.generation, &run, index};
  sealed.push_back({.meta = order.meta,
                    .slot = at.at.slot,
                    .generation = at.at.generation,
                    .length = order.length,
                    .slot_bytes = claim.slot.slot_bytes,
                    .checksum = order.checksum});
}

/// The source hashes the slot itself; nobody waits for its answer.
void CopyService::suspect(const Run& run, const wire::SlotRef& at) {
  const wire::Suspect message{at.slot, at.generation};
  const wire::Header head = data_.header(OpId{++last_op_});
  static_cast<void>(data_.fabric.send(run.peer, wire::write_frame(frame_, head, message)));
}

void CopyService::on_answer(PeerId peer, const wire::Frame& frame) {
  if (frame.header.type != wire::Type::refused) return;
  Run* const run = find(peer, frame.header.op);
  if (run == nullptr) return;
  run->over = true;
  run->signal.raise();
}

void CopyService::settle(const wire::SlotRef& at, ItemStatus verdict) {
  const auto found = sealed_.find(at.slot.value);
  if (found == sealed_.end() || found->second.generation != at.generation) return;
  const auto [generation, run, index] = found->second;
  if (verdict == ItemStatus::ok) NodeCounters::add(data_.counters.copied_blocks);
  end(*run, index, verdict);
  run->signal.raise();
}

// ---- how copies end

/// Ends what is not being received: nothing can land there, now that its Data would be dropped.
/// What is sealed here needs the source no more: it waits for the shard, unless it is `late`.
void CopyService::give_up(Run& run, bool late) {
  bool unsent = false;
  for (std::size_t i = 0; i < run.items.size(); ++i) {
    const Stage stage = run.items[i].stage;
    unsent = unsent || stage == Stage::waiting;
    if (stage == Stage::waiting || (late && stage == Stage::sealed)) {
      end(run, i, ItemStatus::unavailable);
    }
  }
  if (!unsent || !run.op || !run.peer) return;
  const wire::Header head = data_.header(OpId{++last_op_});
  static_cast<void>(
      data_.fabric.send(run.peer, wire::write_frame(frame_, head, wire::CancelFetch{run.op})));
}

void CopyService::end(Run& run, std::size_t index, ItemStatus status) {
  Item& item = run.items[index];
  if (item.claim) data_.table.abandon(*std::exchange(item.claim, std::nullopt));
  const auto waiting = sealed_.find(item.at.slot.value);  // or the slot's next use
  const bool its = waiting != sealed_.end() && waiting->second.generation == item.at.generation;
  if (item.stage == Stage::sealed && its) sealed_.erase(waiting);
  item.stage = Stage::ended;
  --run.open;
  --copies_;
  run.ends.push_back({item.order.copy, status});
  remember({run.link.number, item.order.copy});
}

void CopyService::remember(const Name& copy) {
  if (!ended_.insert(copy).second) return;
  ended_order_.push_back(copy);
  if (ended_order_.size() <= kRemembered) return;
  ended_.erase(ended_order_.front());
  ended_order_.pop_front();
}

void CopyService::tell(Run& run) {
  if (!run.ends.empty()) announcers_.copied(run.link, std::exchange(run.ends, {}));
}

void CopyService::on_lost(PeerId peer) {
  std::erase_if(sources_, [&](const auto& source) { return source.second.peer == peer; });
  for (Run* run : runs_) {
    if (run->peer != peer) continue;
    run->over = true;
    run->signal.raise();
  }
}

void CopyService::stop() {
  stopped_ = true;
  wake_all();
}

}  // namespace membrain
