#include "cache/share/sharer.h"

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/log.h"
#include "base/mac.h"
#include "cache/node/pause.h"
#include "protocol/frame.h"

namespace membrain {

namespace {

constexpr Duration kFarewell = std::chrono::seconds(1);        // for transfers when stopping
constexpr Duration kDrainPoll = std::chrono::milliseconds(1);  // while peers close
/// Between two blocks that are hashed because somebody doubts them: a liar costs no more than that.
constexpr Duration kDoubtPause = std::chrono::milliseconds(20);

NodeId random_node() {
  NodeId node;
  while (!node) node = NodeId{static_cast<std::uint32_t>(random_u64())};
  return node;
}

}  // namespace

Sharer::Sharer(Fabric& control, Fabric& data, std::vector<std::unique_ptr<DeviceLane>> lanes,
               SharerConfig config)
    : config_(std::move(config)),
      fabric_(data),
      node_(random_node()),
      peers_(data, [this](PeerId peer) { service_.on_lost(peer); }),
      announcers_(table_),
      lanes_(std::move(lanes)),
      place_{data,
             table_,
             authority_,
             peers_,
             counters_,
             lanes_,
             [this] {
               for (Signal* const waiting : waiting_) waiting->raise();
             }},
      service_(place_),
      door_(data.loop(), *this),
      links_(control, counters_) {}

Sharer::~Sharer() {
  door_.shut();
}

Result<Address> Sharer::start() {
  fabric_.set_receiver(*this);
  Result<Address> address = fabric_.listen(config_.listen);
  if (!address) return address;
  shard_ = links_.door();
  announcers_.open(shard_);
  LinkConfig link;
  link.server = config_.server;
  link.secret = config_.secret;
  link.host = config_.host;
  link.address = config_.advertise.empty() ? *address : config_.advertise;
  link.node = node_;
  link.incarnation = Incarnation{1};
  link.tier = Tier::device;
  links_.configure(std::move(link), door_);
  if (const Result<> posted = shard_.post([](ShardSide& shard) { shard.adopted(); }); !posted) {
    return fail(posted.error());
  }
  return address;
}

Task<> Sharer::leave() {
  Task<> stopping = links_.stop();
  co_await stopping;
}

// ---- the engine

Result<> Sharer::share(SharedBlock block) {
  if (stopped_) return fail(Errc::unavailable, "the client is closing");
  if (place_.lane(block.device) == nullptr) {
    return fail(Errc::unavailable, "nothing is shared from that GPU");
  }
  Result<wire::SlotEntry> entry = table_.add(std::move(block));
  if (!entry) return fail(entry.error());
  if (announcers_.passed(entry->meta.key, entry->slot)) table_.told(entry->slot);
  announcers_.sealed({std::move(*entry)});
  return {};
}

Task<> Sharer::unshare(std::shared_ptr<const LayoutGeometry> layout,
                       std::vector<std::uint32_t> ids) {
  announcers_.gone(table_.take_back(*layout, ids));
  if (table_.quiet(*layout, ids)) co_return;
  Signal ended(fabric_.loop().ready());
  const auto self = waiting_.insert(waiting_.end(), &ended);
  while (!table_.quiet(*layout, ids)) co_await ended;
  waiting_.erase(self);
}

// ---- peers

void Sharer::on_message(PeerId peer, std::span<const std::byte> bytes, Payload) {
  if (!peers_.heard(peer)) return;
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (frame && dispatch(peer, *frame)) return;
  log(LogLevel::warn, "sharing: a peer sent a frame that does not decode; it is disconnected");
  peers_.close(peer);
}

/// False if the frame is not what it says it is.
bool Sharer::dispatch(PeerId peer, const wire::Frame& frame) {
  const OpId op = frame.header.op;
  std::vector<std::byte> answer;
  switch (frame.header.type) {
    case wire::Type::fetch: {
      auto fetch = wire::read_body<wire::Fetch>(frame.body);
      const bool into_device = (frame.header.flags & wire::kIntoDevice) != 0;
      if (fetch) service_.on_fetch(peer, op, std::move(*fetch), into_device);
      return fetch.has_value();
    }
    case wire::Type::cancel_fetch: {
      const auto cancel = wire::read_body<wire::CancelFetch>(frame.body);
      if (cancel) service_.on_cancel(peer, cancel->fetch);
      return cancel.has_value();
    }
    case wire::Type::suspect: {
      const auto doubted = wire::read_body<wire::Suspect>(frame.body);
      if (!doubted) return false;
      suspect({doubted->slot, doubted->generation});
      wire::write_frame(answer, place_.header(op), wire::SuspectNoted{});
      break;
    }
    default: {
      const wire::Refused refused{Errc::invalid_argument, "an engine that shares takes no such"};
      wire::write_frame(answer, place_.header(op), refused);
    }
  }
  static_cast<void>(fabric_.send(peer, answer));
  return true;
}

void Sharer::on_lost(PeerId peer, const Error&) {
  peers_.lost(peer);
  service_.on_lost(peer);
}

/// One at a time; a reader that still doubts says so again.
void Sharer::suspect(const wire::SlotRef& at) {
  if (stopped_ || std::exchange(hashing_, true)) return;
  fabric_.loop().spawn(hash_again(at));
}

Task<> Sharer::hash_again(wire::SlotRef at) {
  Loop& loop = fabric_.loop();
  const SharedBlock* const block = table_.find(at);
  DeviceLane* const lane = block == nullptr ? nullptr : place_.lane(block->device);
  bool sound = true;
  if (lane != nullptr) {
    Task<Result<DeviceLane::Slot>> taking =
        lane->take(loop.now() + kFarewell, [this] { return stopped_; });
    Result<DeviceLane::Slot> slot = co_await taking;
    const SharedBlock* read = nullptr;
    if (slot && table_.open_read(at, read) == wire::ItemStatus::ok) {
      const std::uint32_t length = read->length;
      const Checksum expected = read->checksum;
      std::vector<cuda::DevicePiece> pieces;
      read->place().for_each_piece([&pieces](const std::byte* data, std::size_t size) {
        pieces.push_back({reinterpret_cast<cuda::Address>(data), size});
      });
      Task<Result<>> gathering = lane->gather(*slot, pieces);
      const Result<> copied = co_await gathering;
      table_.close_read(at);
      place_.read_ended();
      sound = !copied || checksum(slot->host().first(length)) == expected;
    }
  }
  if (!sound && table_.find(at) != nullptr) {
    log(LogLevel::error, "a block was changed while it was shared: not served any more");
    NodeCounters::add(counters_.corrupt_slots);
    announcers_.corrupt(at);
    table_.drop(at);
  }
  if (!stopped_) co_await loop.sleep_until(loop.now() + kDoubtPause);
  hashing_ = false;
}

// ---- the shards

void Sharer::mapped(const std::vector<ShardId>& shards) {
  authority_.keep(shards);
}

void Sharer::accepted(LinkId link, const LinkTerm& term) {
  authority_.accept(link.shard, term.epoch, term.grant_key);
  for (const KeyRange& over : announcers_.accepted(link, term)) table_.unlinked(over);
  table_.unlinked(term.range);
}

void Sharer::want_portion(LinkId link) {
  announcers_.give_portion(link);
}

void Sharer::settled(LinkId link, const std::vector<Verdict>& verdicts) {
  if (announcers_.find(link) == nullptr) return;
  std::vector<KeyedSlot> gone;
  for (const Verdict& verdict : verdicts) {
    const std::optional<BlockKey> key = table_.key_of(verdict.at);
    if (key && table_.settle(verdict.at, verdict.status)) gone.push_back({*key, verdict.at});
  }
  announcers_.gone(std::move(gone));
}

void Sharer::free(LinkId link, Epoch epoch, const std::vector<wire::SlotRef>& slots) {
  std::vector<wire::SlotRef> freed = announcers_.obeyed(link, epoch, slots, counters_);
  for (const wire::SlotRef& at : freed) table_.drop(at);
  NodeCounters::add(counters_.freed, freed.size());
  announcers_.freed(link, std::move(freed));
}

void Sharer::lost(LinkId link) {
  if (const Announcer* const shard = announcers_.find(link)) table_.unlinked(shard->range());
  announcers_.lost(link);
}

// ---- the end

void Sharer::stop() {
  if (std::exchange(stopped_, true)) return;
  static_cast<void>(table_.take_back_all());
  service_.stop();
  fabric_.loop().spawn(drain());
}

/// Lets what is under way end, for a while; then closes every connection.
Task<> Sharer::drain() {
  Loop& loop = fabric_.loop();
  Pause pause(loop);
  const TimePoint farewell = loop.now() + kFarewell;
  while (!(service_.idle() && !hashing_ && waiting_.empty() && peers_.empty())) {
    if (service_.idle() || loop.now() >= farewell) peers_.close_all();
    Task<> polled = pause.until(loop.now() + kDrainPoll);
    co_await polled;
  }
  door_.shut();
  static_cast<void>(shard_.post([](ShardSide& side) { side.slots_quiet(); }));
}

}  // namespace membrain
