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
constexpr std::uint32_t kMostDoublings = 16;

}  // namespace

ShardLink::ShardLink(Fabric& fabric, NodeCounters& counters)
    : fabric_(fabric),
      loop_(fabric.loop()),
      counters_(counters),
      door_(fabric.loop(), *this),
      calls_(fabric),
      retry_(loop_),
      news_(loop_),
      heart_(loop_),
      children_(loop_),
      quiet_(loop_) {}

ShardLink::~ShardLink() {
  check(!running_, "a shard link was destroyed while it ran");
  door_.shut();
}

void ShardLink::configure(LinkConfig config, Door<SlotSide> slots) {
  config_ = std::move(config);
  servers_ = Servers(config_.server);
  slots_ = std::move(slots);
  fabric_.set_receiver(*this);
}

void ShardLink::adopted() {
  if (stopping_ || std::exchange(running_, true)) return;
  loop_.spawn(run());
}

Task<> ShardLink::stop() {
  stopping_ = true;
  retry_.end();
  take_down({Errc::cancelled, 0, "the node is stopping"});
  while (running_) {
    Task<> ended = quiet_.until(loop_.now() + kLongWait);
    co_await ended;
  }
  const Result<> posted = slots_.post([](SlotSide& slots) { slots.stop(); });
  while (posted && !slots_quiet_) {
    Task<> ended = quiet_.until(loop_.now() + kLongWait);
    co_await ended;
  }
}

void ShardLink::slots_quiet() {
  slots_quiet_ = true;
  quiet_.end();
}

// --- The connection. ---

Task<> ShardLink::run() {
  std::uint32_t failures = 0;
  while (!stopping_) {
    const TimePoint now = loop_.now();
    Task<Result<PeerId>> connecting =
        fabric_.connect(servers_.current(), servers_.patience(now, now + config_.connect_timeout));
    const Result<PeerId> peer = co_await connecting;
    Error why{Errc::unavailable, 0, {}};
    bool served = false;
    if (peer) {
      peer_ = *peer;
      Task<Result<>> serving = serve();
      const Result<> ended = co_await serving;
      served = ended.has_value();
      why = served ? down_why_ : ended.error();
    } else {
      why = peer.error();
    }
    if (stopping_) break;
    failures = served ? 0 : failures + 1;
    note_failure(why, failures);
    servers_.next();
    // All of them in a row, then a pause.
    if (!served && failures % servers_.count() != 0) continue;
    Task<> waiting = retry_.until(loop_.now() +
                                  backoff(failures / static_cast<std::uint32_t>(servers_.count())));
    co_await waiting;
  }
  running_ = false;
  quiet_.end();
}

/// From the connection to its end. An error if it never came to publishing.
Task<Result<>> ShardLink::serve() {
  up_ = !stopping_;
  reported_ = false;
  ++link_;
  portion_.reset();
  to_publish_.clear();
  Task<Result<>> registering = register_node();
  Result<> outcome = co_await registering;
  if (outcome) {
    loop_.spawn(beat());
    Task<Result<>> reporting = report();
    outcome = co_await reporting;
  }
  if (outcome) {
    reported_ = true;
    NodeCounters::add(counters_.connected);
    log(LogLevel::info, "node {}: registered with {} in epoch {}", config_.node.value,
        servers_.current(), epoch_.value);
    start_publishing();
    while (up()) {
      Task<> ended = news_.until(loop_.now() + kLongWait);
      co_await ended;
    }
    counters_.connected.store(0);
  }
  static_cast<void>(slots_.post([link = link_](SlotSide& slots) { slots.lost(link); }));
  take_down(outcome ? down_why_ : outcome.error());
  Task<> closing = fabric_.close(peer_);
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
  request.proof =
      register_proof(config_.secret, config_.node, config_.incarnation, fabric_.binding(peer_));
  Task<Result<wire::Accepted>> calling =
      calls_.call<wire::Accepted>(peer_, std::move(request), answer_deadline(), header());
  const Result<wire::Accepted> accepted = co_await calling;
  if (!accepted) co_return fail(accepted.error());
  if (accepted->epoch < epoch_ || !accepted->epoch) {
    log(LogLevel::error, "node {}: {} is of epoch {}, but {} has been seen: it is refused",
        config_.node.value, servers_.current(), accepted->epoch.value, epoch_.value);
    co_return fail(Errc::stale, "the shard's epoch is over");
  }
  epoch_ = accepted->epoch;
  counters_.epoch.store(epoch_.value);
  ttl_ = std::chrono::milliseconds(accepted->ttl_ms);
  const Digest grant_key = accepted->grant_key;
  co_return slots_.post([link = link_, epoch = epoch_, grant_key](SlotSide& slots) {
    slots.accepted(link, epoch, grant_key);
  });
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

void ShardLink::portion(LinkNumber link, std::vector<wire::SlotEntry> entries, bool last) {
  if (link != link_) return;
  portion_ = Portion{std::move(entries), last};
  news_.end();
}

/// Says that the node lives, three times within the time to live.
Task<> ShardLink::beat() {
  const Child child(*this);
  TimePoint heard = loop_.now();
  while (up()) {
    const Duration between = std::max(ttl_ / 3, kShortestBeat);
    Task<> waiting = heart_.until(loop_.now() + between);
    co_await waiting;
    if (!up()) break;
    wire::NodeHeartbeat heartbeat;
    heartbeat.node = config_.node;
    heartbeat.incarnation = config_.incarnation;
    heartbeat.free_bytes = counters_.free_bytes.load(std::memory_order_relaxed);
    Task<Result<wire::NodeAlive>> calling =
        calls_.call<wire::NodeAlive>(peer_, std::move(heartbeat), loop_.now() + between, header());
    const Result<wire::NodeAlive> alive = co_await calling;
    if (alive) {
      heard = loop_.now();
    } else if (!again(alive.error())) {
      break;
    } else if (loop_.now() - heard > (servers_.count() > 1 ? ttl_ / 2 : ttl_)) {
      take_down({Errc::timed_out, 0, "the shard has fallen silent"});
    }
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
}

void ShardLink::note_failure(const Error& why, std::uint32_t failures) {
  // The first failures, then ever fewer: a shard may be away for days.
  if (failures > 4 && (failures & (failures - 1)) != 0) return;
  log(LogLevel::warn, "node {}: no shard at {}: {} ({}); trying on", config_.node.value,
      servers_.current(), to_string(why.code), why.context);
}

/// Doubles with every failure, and differs by up to a quarter from node to node.
Duration ShardLink::backoff(std::uint32_t failures) const noexcept {
  const Duration longest =
      servers_.count() > 1 ? config_.longest_of_several : config_.longest_backoff;
  Duration wait = config_.first_backoff;
  for (std::uint32_t i = 1; i < std::min(failures, kMostDoublings); ++i) {
    wait = std::min(wait * 2, longest);
  }
  const std::uint64_t mixed =
      (config_.node.value * 0x9e3779b97f4a7c15ull + failures * 0xbf58476d1ce4e5b9ull) >> 56;
  return wait * 3 / 4 + wait * static_cast<std::int64_t>(mixed) / 512;
}

wire::Header ShardLink::header() const noexcept {
  wire::Header header;
  header.epoch = epoch_;
  return header;
}

TimePoint ShardLink::answer_deadline() const noexcept {
  return loop_.now() + config_.answer_timeout;
}

void ShardLink::on_message(PeerId peer, std::span<const std::byte> bytes, Payload) {
  if (peer != peer_ || !up()) return;
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (!frame) return take_down(frame.error());
  if (calls_.on_frame(peer, *frame)) return;
  if (frame->header.type != wire::Type::free_slots) return;  // late or repeated: of no use
  const auto message = wire::read_body<wire::FreeSlots>(frame->body);
  if (!message) return take_down(message.error());
  on_free(*message);
}

void ShardLink::on_lost(PeerId peer, const Error& why) {
  if (peer == peer_) take_down(why);
}

}  // namespace membrain
