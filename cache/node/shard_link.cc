#include "cache/node/shard_link.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "protocol/proofs.h"

namespace membrain {

namespace {

constexpr Duration kLongWait = std::chrono::hours(1);  // for what comes, or ends, by itself
constexpr Duration kShortestBeat = std::chrono::milliseconds(10);

}  // namespace

ShardLink::ShardLink(ControlLoop& control, ShardId shard, KeyRange range)
    : control_(control),
      loop_(control.loop()),
      counters_(control.counters),
      config_(control.config),
      slots_(control.slots),
      shard_(shard),
      range_(range),
      epoch_(control.epochs[shard]),
      calls_(control.fabric),
      retry_(loop_),
      news_(loop_),
      heart_(loop_),
      farewell_(loop_),
      children_(loop_),
      quiet_(loop_) {}

ShardLink::~ShardLink() {
  check(!running_, "a shard link was destroyed while it ran");
}

void ShardLink::start() {
  if (stopping_ || std::exchange(running_, true)) return;
  loop_.spawn(run());
}

void ShardLink::set_range(KeyRange range) {
  if (range == std::exchange(range_, range)) return;
  if (told_) take_down({Errc::stale, 0, "the shard has other keys now"});
}

void ShardLink::begin_stop() {
  stopping_ = true;
  retry_.end();
  take_down({Errc::cancelled, 0, "the node is stopping"});
}

Task<> ShardLink::stop() {
  begin_stop();
  while (running_) {
    Task<> ended = quiet_.until(loop_.now() + kLongWait);
    co_await ended;
  }
}

// --- The connection. ---

Task<> ShardLink::run() {
  const auto servers = static_cast<std::uint32_t>(control_.directory.server_count());
  std::uint32_t failures = 0;
  while (!stopping_) {
    misled_ = false;
    Task<Result<>> serving = connect_and_serve(failures > 0);
    const Result<> ended = co_await serving;
    if (stopping_) break;
    failures = ended ? 0 : failures + 1;
    note_failure(ended ? down_why_ : ended.error(), failures);
    // Who named one that does not lead may know less than the others: all in a row, then a pause.
    if (misled_ && failures % servers != 0) continue;
    const Duration pause = control_.directory.backoff(failures / servers);
    Task<> waiting = retry_.until(loop_.now() + pause);
    co_await waiting;
  }
  running_ = false;
  quiet_.end();
}

/// `elsewhere`: another server is to be asked than the last time. An error if it never came to
/// publishing.
Task<Result<>> ShardLink::connect_and_serve(bool elsewhere) {
  Task<Result<Address>> finding = control_.directory.find_leader(shard_, elsewhere, silent_);
  const Result<Address> leader = co_await finding;
  if (!leader) co_return fail(leader.error());
  if (stopping_) co_return fail(down_why_);
  leader_ = *leader;
  misled_ = true;
  Task<Result<PeerId>> connecting =
      control_.fabric.connect(leader_, control_.directory.connect_deadline(leader_, silent_));
  const Result<PeerId> peer = co_await connecting;
  if (!peer) co_return fail(peer.error());
  peer_ = *peer;
  Task<Result<>> serving = serve();
  const Result<> ended = co_await serving;
  co_return ended;
}

/// From the connection to its end. An error if it never came to publishing.
Task<Result<>> ShardLink::serve() {
  up_ = !stopping_;
  told_ = reported_ = false;
  link_ = {shard_, ++control_.last_link};
  portion_.reset();
  to_publish_.clear();
  to_tell_corrupt_.clear();
  Task<Result<>> registering = register_node();
  Result<> outcome = co_await registering;
  if (outcome) {
    loop_.spawn(beat());
    Task<Result<>> reporting = report();
    outcome = co_await reporting;
  }
  if (outcome) {
    reported_ = true;
    misled_ = false;
    silent_.clear();
    NodeCounters::add(counters_.connected);
    log(LogLevel::info, "node {}: registered with shard {} at {} in epoch {}", config_.node.value,
        shard_.value, leader_, epoch_.value);
    start_publishing();
    start_telling_corrupt();
    leave();
    while (up()) {
      Task<> ended = news_.until(loop_.now() + kLongWait);
      co_await ended;
    }
    counters_.connected.fetch_sub(1, std::memory_order_relaxed);
  }
  static_cast<void>(slots_.post([link = link_](SlotSide& slots) { slots.lost(link); }));
  told_ = false;
  take_down(outcome ? down_why_ : outcome.error());
  Task<> closing = control_.fabric.close(peer_);
  co_await closing;
  while (child_count_ > 0) {
    Task<> ended = children_.until(loop_.now() + kLongWait);
    co_await ended;
  }
  peer_ = {};
  co_return outcome;
}

Task<Result<>> ShardLink::register_node() {
  wire::RegisterNode request;
  request.node = config_.node;
  request.incarnation = config_.incarnation;
  request.capacity_bytes = config_.capacity_bytes;
  request.address = config_.address;
  request.host = config_.host;
  request.door = config_.door;
  request.tier = config_.tier;
  request.zone = config_.zone;
  request.proof = register_proof(config_.secret, config_.node, config_.incarnation,
                                 control_.fabric.binding(peer_));
  Task<Result<wire::Accepted>> calling =
      calls_.call<wire::Accepted>(peer_, std::move(request), answer_deadline(), header());
  const Result<wire::Accepted> accepted = co_await calling;
  if (!accepted) co_return fail(accepted.error());
  if (accepted->epoch < epoch_ || !accepted->epoch) {
    log(LogLevel::error, "node {}: {} is of epoch {}, but {} has been seen: it is refused",
        config_.node.value, leader_, accepted->epoch.value, epoch_.value);
    co_return fail(Errc::stale, "the shard's epoch is over");
  }
  epoch_ = accepted->epoch;
  Task<Result<>> taking = take_term(*accepted);
  const Result<> taken = co_await taking;
  co_return taken;
}

/// Tells the data loop, which needs the range that the leader goes by.
Task<Result<>> ShardLink::take_term(wire::Accepted accepted) {
  Task<Result<>> reaching = control_.directory.reach(accepted.map_version, answer_deadline());
  const Result<> reached = co_await reaching;
  if (!reached) co_return reached;
  if (!up()) co_return fail(down_why_);
  if (counters_.epoch.load() < epoch_.value) counters_.epoch.store(epoch_.value);
  ttl_ = std::chrono::milliseconds(accepted.ttl_ms);
  told_ = true;
  const LinkTerm term{accepted.epoch, accepted.grant_key, range_};
  co_return slots_.post([link = link_, term](SlotSide& slots) { slots.accepted(link, term); });
}

Task<Result<>> ShardLink::report() {
  wire::Report report;
  report.node = config_.node;
  report.incarnation = config_.incarnation;
  for (; !report.last; ++report.portion) {
    const Result<> wanted =
        slots_.post([link = link_](SlotSide& slots) { slots.want_portion(link); });
    if (!wanted) co_return wanted;
    while (up() && !portion_) {
      Task<> coming = news_.until(loop_.now() + kLongWait);
      co_await coming;
    }
    if (!up()) co_return fail(down_why_);
    report.items = std::move(portion_->entries);
    report.last = portion_->last;
    portion_.reset();
    for (bool answered = false; !answered;) {
      Task<Result<wire::Reported>> calling =
          calls_.call<wire::Reported>(peer_, report, answer_deadline(), header());
      const Result<wire::Reported> reported = co_await calling;
      if (!reported && !again(reported.error())) co_return fail(reported.error());
      if (!reported) continue;
      settle(report.items, reported->statuses);
      if (!up()) co_return fail(down_why_);
      answered = true;
    }
  }
  co_return Result<>{};
}

void ShardLink::portion(LinkId link, std::vector<wire::SlotEntry> entries, bool last) {
  if (link != link_) return;
  portion_ = Portion{std::move(entries), last};
  news_.end();
}

/// Says that the node lives, and what room it has: at once (until then the shard takes it for full)
/// and three times within the time to live.
Task<> ShardLink::beat() {
  const Child child(*this);
  TimePoint heard = loop_.now();
  while (up()) {
    const Duration between = std::max(ttl_ / 3, kShortestBeat);
    wire::NodeHeartbeat heartbeat;
    heartbeat.node = config_.node;
    heartbeat.incarnation = config_.incarnation;
    heartbeat.free_bytes = counters_.free_bytes.load(std::memory_order_relaxed);
    heartbeat.moved_bytes = counters_.bytes_in.load(std::memory_order_relaxed) +
                            counters_.bytes_out.load(std::memory_order_relaxed);
    Task<Result<wire::NodeAlive>> calling =
        calls_.call<wire::NodeAlive>(peer_, std::move(heartbeat), loop_.now() + between, header());
    const Result<wire::NodeAlive> alive = co_await calling;
    const bool several = control_.directory.server_count() > 1;
    if (alive) {
      heard = loop_.now();
    } else if (!again(alive.error())) {
      break;
    } else if (loop_.now() - heard > (several ? ttl_ / 2 : ttl_)) {
      silent_ = leader_;
      take_down({Errc::timed_out, 0, "the shard has fallen silent"});
    }
    if (!up()) break;
    Task<> waiting = heart_.until(loop_.now() + between);
    co_await waiting;
  }
}

/// After a failed call: true if it may be made again on this connection. Anything but a missing
/// answer ends the connection: the shard does not know us any more, or makes no sense.
bool ShardLink::again(const Error& why) {
  if (up() && why.code == Errc::timed_out) return true;
  take_down(why);
  return false;
}

/// Ends the connection: every call of it, and every wait.
void ShardLink::take_down(const Error& why) {
  if (std::exchange(up_, false)) down_why_ = why;
  if (peer_) calls_.on_lost(peer_);
  news_.end();
  heart_.end();
  farewell_.end();
}

void ShardLink::note_failure(const Error& why, std::uint32_t failures) {
  // The first failures, then ever fewer: a shard may be away for days.
  if (failures > 4 && (failures & (failures - 1)) != 0) return;
  log(LogLevel::warn, "node {}: no shard {} at \"{}\": {} ({}); trying on", config_.node.value,
      shard_.value, leader_, to_string(why.code), why.context);
}

wire::Header ShardLink::header() const noexcept {
  wire::Header header;
  header.shard = shard_;
  header.epoch = epoch_;
  return header;
}

TimePoint ShardLink::answer_deadline() const noexcept {
  return loop_.now() + config_.answer_timeout;
}

void ShardLink::on_message(PeerId peer, std::span<const std::byte> bytes) {
  if (peer != peer_ || !up()) return;
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (!frame) return take_down(frame.error());
  if (calls_.on_frame(peer, *frame)) return;
  if (frame->header.type == wire::Type::free_slots) {
    const auto message = wire::read_body<wire::FreeSlots>(frame->body);
    if (!message) return take_down(message.error());
    on_free(*message);
  } else if (frame->header.type == wire::Type::copy_blocks) {
    auto order = wire::read_body<wire::CopyBlocks>(frame->body);
    if (!order) return take_down(order.error());
    on_copy(std::move(*order));
  }  // else late or repeated: of no use
}

void ShardLink::on_lost(PeerId peer, const Error& why) {
  if (peer == peer_) take_down(why);
}

}  // namespace membrain
