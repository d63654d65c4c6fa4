#include "cache/node/block_service.h"

#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "protocol/frame.h"
#include "protocol/messages.h"

namespace membrain {

namespace {

constexpr Duration kFarewell = std::chrono::seconds(1);        // for transfers when stopping
constexpr Duration kDrainPoll = std::chrono::milliseconds(1);  // while peers close
constexpr std::size_t kLogEveryPercent = 10;

}  // namespace

BlockService::BlockService(Fabric& fabric, Arena& arena, NodeCounters& counters, BlockLimits limits,
                           Windows* windows)
    : fabric_(fabric),
      counters_(counters),
      limits_(limits),
      table_(arena, counters),
      peers_(fabric, [this](PeerId peer) { gone(peer); }),
      windows_(windows),
      data_{fabric, table_, authority_, peers_, counters, nullptr},
      announcers_(table_),
      space_(fabric.loop(), table_, announcers_),
      reservations_(arena.capacity_bytes(), limits.reserve),
      stores_(data_, announcers_, space_, reservations_, limits.store),
      reserves_(data_, space_, reservations_),
      fetches_(data_, limits.fetch, [this](const wire::SlotRef& at) { suspects_.suspect(at); }),
      copies_(data_, announcers_),
      suspects_(fabric.loop(), table_,
                [this](const wire::SlotRef& at) { announcers_.corrupt(at); }),
      adoption_(
          table_, counters,
          [this](const SlotClaim& claim, WriterId writer) { reserves_.adopt(claim, writer); }),
      door_(fabric.loop(), *this),
      own_door_(fabric.loop(), *this) {}

BlockService::~BlockService() {
  door_.shut();
  own_door_.shut();
  suspects_.stop();
}

Result<Address> BlockService::start(const Address& listen, Door<ShardSide> shard) {
  Result<std::unique_ptr<Region>> region = fabric_.register_memory(table_.arena().slots());
  if (region) {
    region_ = std::move(*region);
    data_.region = region_.get();
  } else {
    log(LogLevel::warn, "node: the arena cannot be registered at once ({}): slower transfers",
        region.error().context);
  }
  open_window();
  fabric_.set_receiver(*this);
  Result<Address> address = fabric_.listen(listen);
  if (!address) return address;
  shard_ = shard;
  announcers_.open(std::move(shard));
  const Result<> posted = own_door_.post([](BlockService& self) { self.adopt(); });
  if (!posted) return fail(posted.error());
  return address;
}

void BlockService::open_window() {
  if (windows_ == nullptr) return;
  const std::span<const std::byte> arena = table_.arena().mapping();
  // Others only ever read it; what registers memory takes it as writable.
  Result<std::vector<std::byte>> opened =
      windows_->open({const_cast<std::byte*>(arena.data()), arena.size()});
  if (opened) {
    window_ = std::move(*opened);
  } else {
    log(LogLevel::warn, "node: the arena cannot be opened to remote reads: {}",
        opened.error().context);
  }
}

void BlockService::on_open_window(PeerId peer, OpId op, const wire::OpenWindow& request) {
  if (window_.empty()) return refuse(peer, op, Errc::unavailable, "this node opens no window");
  if (data_.authority.check(request.proof) != wire::ItemStatus::ok) {
    return refuse(peer, op, Errc::denied, "no proof of a session");
  }
  const Arena& arena = table_.arena();
  wire::WindowOpened answer;
  answer.incarnation = arena.incarnation();
  answer.capacity_bytes = arena.capacity_bytes();
  answer.seals_offset = static_cast<std::uint64_t>(
      reinterpret_cast<const std::byte*>(arena.seals().data()) - arena.mapping().data());
  answer.slots_offset = static_cast<std::uint64_t>(arena.slots().data() - arena.mapping().data());
  answer.window = window_;
  std::vector<std::byte> frame;
  static_cast<void>(fabric_.send(peer, wire::write_frame(frame, data_.header(op), answer)));
}

/// A step of the adoption; the next one comes in the next turn.
void BlockService::adopt() {
  if (stopped_) return;
  const bool done = !table_.arena().adopted() || adoption_.step(limits_.adoption_step_bytes);
  if (!done) {
    if (adoption_.percent() >= adoption_logged_percent_ + kLogEveryPercent) {
      adoption_logged_percent_ = adoption_.percent();
      log(LogLevel::info, "node: checking what is in the arena: {} %", adoption_logged_percent_);
    }
    static_cast<void>(own_door_.post([](BlockService& self) { self.adopt(); }));
    return;
  }
  if (table_.arena().adopted()) {
    log(LogLevel::info, "node: adopted {} blocks; {} torn and {} damaged ones were freed",
        adoption_.adopted(), adoption_.torn(), adoption_.damaged());
  }
  static_cast<void>(shard_.post([](ShardSide& side) { side.adopted(); }));
}

void BlockService::on_message(PeerId peer, std::span<const std::byte> bytes, Payload payload) {
  if (!peers_.heard(peer)) return;
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (frame && dispatch(peer, *frame, payload)) return;
  log(LogLevel::warn, "node: a client sent a frame that does not decode; its connection is closed");
  peers_.close(peer);
}

/// False if the frame is not what it says it is.
bool BlockService::dispatch(PeerId peer, const wire::Frame& frame, Payload& payload) {
  const OpId op = frame.header.op;
  switch (frame.header.type) {
    case wire::Type::fetch:
      return fetches_.on_fetch(peer, op, frame.body);
    case wire::Type::cancel_fetch: {
      const auto cancel = wire::read_body<wire::CancelFetch>(frame.body);
      if (cancel) fetches_.on_cancel(peer, cancel->fetch);
      return cancel.has_value();
    }
    case wire::Type::store: {
      Result<wire::Store> store = wire::read_body<wire::Store>(frame.body);
      if (store) stores_.on_store(peer, op, std::move(*store), std::move(payload));
      return store.has_value();
    }
    case wire::Type::reserve_slots: {
      const auto reserve = wire::read_body<wire::ReserveSlots>(frame.body);
      if (reserve) reserves_.on_reserve(peer, op, *reserve);
      return reserve.has_value();
    }
    case wire::Type::seal_slots: {
      const auto seal = wire::read_body<wire::SealSlots>(frame.body);
      if (seal) stores_.on_seal(peer, op, *seal);
      return seal.has_value();
    }
    case wire::Type::give_back_slots: {
      const auto back = wire::read_body<wire::GiveBackSlots>(frame.body);
      if (back) reserves_.on_give_back(*back);
      return back.has_value();
    }
    case wire::Type::open_window: {
      const auto open = wire::read_body<wire::OpenWindow>(frame.body);
      if (open) on_open_window(peer, op, *open);
      return open.has_value();
    }
    case wire::Type::suspect: {
      const auto suspect = wire::read_body<wire::Suspect>(frame.body);
      if (!suspect) return false;
      suspects_.suspect({suspect->slot, suspect->generation});
      std::vector<std::byte> noted;
      static_cast<void>(
          fabric_.send(peer, wire::write_frame(noted, data_.header(op), wire::SuspectNoted{})));
      return true;
    }
    case wire::Type::data:
      return copies_.on_data(peer, frame, payload);
    case wire::Type::refused:
    case wire::Type::suspect_noted:
      copies_.on_answer(peer, frame);
      return true;
    default:
      refuse(peer, op, Errc::invalid_argument, "a node does not take this message");
      return true;
  }
}

void BlockService::refuse(PeerId peer, OpId op, Errc code, std::string_view reason) {
  const wire::Refused refused{code, std::string(reason)};
  std::vector<std::byte> frame;
  static_cast<void>(fabric_.send(peer, wire::write_frame(frame, data_.header(op), refused)));
}

void BlockService::on_lost(PeerId peer, const Error&) {
  peers_.lost(peer);
  gone(peer);
}

void BlockService::gone(PeerId peer) {
  stores_.on_lost(peer);
  reserves_.on_lost(peer);
  fetches_.on_lost(peer);
  copies_.on_lost(peer);
}

// ---- what the shards say

void BlockService::mapped(const std::vector<ShardId>& shards) {
  authority_.keep(shards);
}

void BlockService::accepted(LinkId link, const LinkTerm& term) {
  authority_.accept(link.shard, term.epoch, term.grant_key);
  static_cast<void>(announcers_.accepted(link, term));
  space_.links_changed();
}

void BlockService::want_portion(LinkId link) {
  announcers_.give_portion(link);
}

void BlockService::settled(LinkId link, const std::vector<Verdict>& verdicts) {
  if (announcers_.find(link) == nullptr) return;
  for (const Verdict& verdict : verdicts) {
    table_.settle(verdict.at, verdict.status);
    stores_.settle(verdict.at, verdict.status);
    copies_.settle(verdict.at, verdict.status);
  }
}

void BlockService::free(LinkId link, Epoch epoch, const std::vector<wire::SlotRef>& slots) {
  std::vector<wire::SlotRef> freed = announcers_.obeyed(link, epoch, slots, counters_);
  for (const wire::SlotRef& at : freed) {
    if (table_.free(at)) NodeCounters::add(counters_.freed);
  }
  announcers_.freed(link, std::move(freed));
}

void BlockService::need_answered(LinkId link, std::size_t slots) {
  space_.answered(link, slots);
}

void BlockService::copy(LinkId link, wire::CopyBlocks order) {
  if (announcers_.find(link) != nullptr) copies_.on_order(link, std::move(order));
}

void BlockService::lost(LinkId link) {
  announcers_.lost(link);
  space_.links_changed();
}

void BlockService::take_no_more() {
  table_.close();
}

void BlockService::stop() {
  if (std::exchange(stopped_, true)) return;
  stores_.stop();
  reserves_.stop();
  fetches_.stop();
  copies_.stop();
  space_.stop();
  suspects_.stop();
  fabric_.loop().spawn(drain());
}

/// Lets what is under way end, for a while; then closes every connection.
Task<> BlockService::drain() {
  Loop& loop = fabric_.loop();
  Pause pause(loop);
  const TimePoint farewell = loop.now() + kFarewell;
  const auto idle = [this] { return stores_.idle() && fetches_.idle() && copies_.idle(); };
  while (!idle() && loop.now() < farewell) {
    Task<> polled = pause.until(loop.now() + kDrainPoll);
    co_await polled;
  }
  peers_.close_all();
  while (!(idle() && peers_.empty())) {
    Task<> polled = pause.until(loop.now() + kDrainPoll);
    co_await polled;
    peers_.close_all();
  }
  door_.shut();
  own_door_.shut();
  static_cast<void>(shard_.post([](ShardSide& side) { side.slots_quiet(); }));
}

}  // namespace membrain
