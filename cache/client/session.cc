#include "cache/client/session.h"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "base/log.h"
#include "protocol/proofs.h"
#include "protocol/servers.h"

namespace membrain {

namespace {

/// Clients that start together must not come back together.
std::uint64_t jitter_seed(const ClientConfig& config, ShardId shard) {
  const std::hash<std::string> hash;
  return hash(config.label) * 31 + hash(config.tenant) + shard.value;
}

}  // namespace

ShardSession::ShardSession(Fabric& control, const ClientConfig& config, ShardId shard,
                           KeyRange range, LeaderFinder& leaders, SessionListener& listener)
    : fabric_(control),
      loop_(control.loop()),
      config_(config),
      shard_(shard),
      range_(range),
      leaders_(leaders),
      listener_(listener),
      tenant_key_(membrain::tenant_key(config.secret, config.tenant)),
      calls_(control),
      circuit_(jitter_seed(config, shard),
               leaders.several() ? Circuit::kLongestOfSeveral : Circuit::kLongestDelay),
      keep_signal_(loop_.ready()),
      unpin_signal_(loop_.ready()),
      stop_signal_(loop_.ready()),
      beat_is_lost_(loop_, [this] { calls_.on_lost(peer_); }) {}

ShardSession::~ShardSession() {
  check(running_ == 0, "a ShardSession was destroyed before it was stopped");
}

wire::Header ShardSession::header() const noexcept {
  wire::Header head;
  head.shard = shard_;
  head.epoch = proof_.epoch;
  return head;
}

Duration ShardSession::beat_every() const noexcept {
  return std::max<Duration>(ttl_ / 3, std::chrono::milliseconds(1));
}

// ---- connecting

Task<Result<>> ShardSession::start(TimePoint deadline) {
  Result<> outcome;
  while (true) {
    Task<Result<>> connected = connect(deadline);
    outcome = co_await connected;
    const bool elected_soon = !outcome && leaders_.several() &&
                              outcome.error().code != Errc::denied &&
                              loop_.now() + Circuit::kLongestOfSeveral < deadline;
    if (!elected_soon) break;
    const TimePoint later = loop_.now() + Circuit::kLongestOfSeveral;
    co_await loop_.sleep_until(later);
  }
  if (!outcome && outcome.error().code == Errc::timed_out) {
    co_return fail(Errc::unavailable, "no server answers there");
  }
  co_return outcome;
}

void ShardSession::keep() {
  running_ += 2;
  loop_.spawn(live());
  loop_.spawn(unpin());
}

void ShardSession::inherit(const ShardSession& from) {
  // A session that resumes another may pin what no node has reported yet.
  proof_.session = from.proof_.session;
  opened_ = from.opened_;
  nodes_ = from.nodes_;
  lives_ = from.lives_;
  for (const LookupId lookup : from.pins_.held()) pins_.hold(lookup, *from.pins_.find(lookup));
}

/// To whoever led last, then to whoever leads.
Task<Result<>> ShardSession::connect(TimePoint deadline) {
  const TimePoint now = loop_.now();
  Address known = leaders_.known_leader(shard_);
  if (!known.empty() && known != silent_) {
    const TimePoint patience =
        leaders_.several() ? std::min(deadline, now + Servers::kPatience) : deadline;
    Task<Result<>> connected = connect_to(std::move(known), patience);
    const Result<> outcome = co_await connected;
    if (outcome || outcome.error().code == Errc::denied || stopping_) co_return outcome;
    if (loop_.now() >= deadline) co_return outcome;
  }
  Task<Result<Address>> finding = leaders_.find_leader(shard_, silent_, deadline);
  Result<Address> leader = co_await finding;
  if (!leader) co_return fail(leader.error());
  const TimePoint until = leaders_.several()
                              ? Servers::patience_with(*leader, silent_, loop_.now(), deadline)
                              : deadline;
  Task<Result<>> connected = connect_to(std::move(*leader), until);
  co_return co_await connected;
}

Task<Result<>> ShardSession::connect_to(Address server, TimePoint deadline) {
  leader_ = server;
  Result<PeerId> peer = leaders_.take_connection(server);
  if (!*peer) {
    Task<Result<PeerId>> connecting = fabric_.connect(std::move(server), deadline);
    peer = co_await connecting;
  }
  if (!peer) co_return fail(peer.error());
  if (stopping_) {
    const PeerId unused = *peer;
    Task<> closed = close(unused);
    co_await closed;
    co_return fail(Errc::cancelled, "the client is closing");
  }
  peer_ = *peer;
  Task<Result<>> introduced = introduce(deadline);
  const Result<> outcome = co_await introduced;
  if (!outcome) {
    if (const PeerId failed = std::exchange(peer_, PeerId{})) {
      Task<> closed = close(failed);
      co_await closed;
    }
    co_return outcome;
  }
  if (!peer_) co_return fail(Errc::unavailable, "the server went away at once");
  circuit_.succeeded();
  silent_.clear();
  opening_ = !untold().empty();
  listener_.on_here(*this);
  unpin_signal_.raise();
  co_return Result<>{};
}

Task<Result<>> ShardSession::introduce(TimePoint deadline) {
  wire::Hello hello;
  hello.tenant = config_.tenant;
  hello.proof = hello_proof(tenant_key_, config_.tenant, fabric_.binding(peer_));
  hello.resume = proof_.session;
  hello.label = config_.label;
  wire::Header head;
  head.shard = shard_;
  Task<Result<wire::Welcome>> asked =
      calls_.call<wire::Welcome>(peer_, std::move(hello), deadline, head);
  const Result<wire::Welcome> welcome = co_await asked;
  if (!welcome) co_return fail(welcome.error());
  if (welcome->proof.epoch < proof_.epoch) {
    log(LogLevel::warn, "shard {}: a server speaks for an older epoch: ignored", shard_.value);
    co_return fail(Errc::unavailable, "the server's epoch is older than one already seen");
  }
  proof_ = welcome->proof;
  told_.clear();
  ttl_ = std::chrono::milliseconds(welcome->ttl_ms);
  max_keys_ = std::clamp<std::size_t>(welcome->max_keys, 1, wire::kMaxKeys);
  // Which keys are this shard's is the term's to say: pins are asserted by the map that it goes by.
  Task<Result<>> renewed = leaders_.renew_map(welcome->map_version, deadline);
  if (const Result<> outcome = co_await renewed; !outcome) co_return outcome;
  Task<Result<>> asserted = assert_again(deadline);
  if (const Result<> outcome = co_await asserted; !outcome) co_return outcome;
  Task<Result<>> listed = fetch_nodes(patience(deadline));
  co_return co_await listed;
}

// ---- nodes

bool ShardSession::knows(NodeId node, Incarnation incarnation) const noexcept {
  const auto found = lives_.find(node);
  return found != lives_.end() && found->second == incarnation;
}

Task<Result<>> ShardSession::fetch_nodes(TimePoint deadline) {
  const wire::Nodes request;
  const wire::Header head = header();
  Task<Result<wire::NodeList>> asked = calls_.call<wire::NodeList>(peer_, request, deadline, head);
  Result<wire::NodeList> list = co_await asked;
  if (!list) co_return fail(list.error());
  nodes_ = std::move(list->nodes);
  lives_.clear();
  for (const wire::NodeEntry& entry : nodes_) lives_[entry.node] = entry.incarnation;
  listener_.on_nodes(*this);
  co_return Result<>{};
}

Task<> ShardSession::refresh_nodes(TimePoint deadline) {
  if (!here()) co_return;
  Task<Result<>> listed = fetch_nodes(deadline);
  const Result<> outcome = co_await listed;
  if (!outcome) log(LogLevel::debug, "the list of nodes did not come");
}

// ---- in the background

/// Heartbeats while the server is here, attempts to reconnect while it is away.
Task<> ShardSession::live() {
  Timer timer(loop_, [this] { keep_signal_.raise(); });
  TimePoint next_beat = loop_.now() + beat_every();
  while (!stopping_) {
    const bool is_here = circuit_.closed();
    const TimePoint beat_at = doubted_ || opening_ ? loop_.now() : next_beat;
    const TimePoint due = is_here ? beat_at : circuit_.retry_at();
    if (loop_.now() < due) {
      timer.arm(due);
      co_await keep_signal_;
    } else if (is_here) {
      next_beat = loop_.now() + beat_every();
      Task<> opened = open_untold();
      co_await opened;
      if (stopping_) continue;
      Task<> beaten = beat();
      co_await beaten;
    } else {
      const TimePoint deadline = loop_.now() + config_.connect_timeout;
      Task<Result<>> connected = connect(deadline);
      const Result<> outcome = co_await connected;
      if (!outcome) circuit_.failed(loop_.now());
      if (outcome) log(LogLevel::info, "the server of shard {} is back", shard_.value);
      next_beat = loop_.now() + beat_every();
    }
  }
  --running_;
  stop_signal_.raise();
}

/// A session that is refused or silent is lost as much as a connection that broke.
Task<> ShardSession::beat() {
  const PeerId peer = peer_;
  const Duration patience = std::exchange(doubted_, false) ? Servers::kPatience : 2 * beat_every();
  const TimePoint deadline = loop_.now() + patience;
  const wire::Heartbeat request{proof_.session};
  const wire::Header head = header();
  Task<Result<wire::Alive>> asked = calls_.call<wire::Alive>(peer, request, deadline, head);
  beating_ = true;
  const Result<wire::Alive> alive = co_await asked;
  beating_ = false;
  beat_is_lost_.cancel();
  if (peer != peer_ || stopping_) co_return;
  if (!alive) {
    if (leaders_.several()) silent_ = leader_;
    lose("no answer to a heartbeat");
    Task<> closed = close(peer);
    co_await closed;
    co_return;
  }
  Task<Result<>> listed = fetch_nodes(deadline);
  const Result<> outcome = co_await listed;
  if (!outcome) log(LogLevel::debug, "the list of nodes did not come");
}

Task<> ShardSession::unpin() {
  while (true) {
    const bool done = stopping_ && (pins_.unpinned() || !circuit_.closed());
    if (done) break;
    if (pins_.unpinned() || !circuit_.closed()) {
      co_await unpin_signal_;
      continue;
    }
    const std::vector<Unpinning> batch = pins_.unpinning(wire::kMaxUnpinItems, wire::kMaxKeys);
    wire::Unpin request;
    request.session = proof_.session;
    for (const Unpinning& one : batch) request.items.push_back({one.lookup, one.space, one.keys});
    const TimePoint deadline = loop_.now() + std::max(beat_every(), kGoodbye);
    const wire::Header head = header();
    Task<Result<wire::Unpinned>> asked =
        calls_.call<wire::Unpinned>(peer_, std::move(request), deadline, head);
    const Result<wire::Unpinned> unpinned = co_await asked;
    if (unpinned) {
      pins_.acknowledge(batch);
    } else if (unpinned.error().code != Errc::timed_out && circuit_.closed()) {
      // Refused, or a send that failed: the heartbeat finds out what is wrong.
      if (stopping_) break;
      co_await unpin_signal_;
    }
  }
  --running_;
  stop_signal_.raise();
}

Task<> ShardSession::close(PeerId peer) {
  ++running_;
  calls_.on_lost(peer);
  Task<> closed = fabric_.close(peer);
  co_await closed;
  --running_;
  stop_signal_.raise();
}

void ShardSession::doubt() {
  if (!leaders_.several() || !here()) return;
  if (beating_) {  // with more patience than a doubt leaves
    if (!beat_is_lost_.armed()) beat_is_lost_.arm(loop_.now() + Servers::kPatience);
    return;
  }
  doubted_ = true;
  keep_signal_.raise();
}

void ShardSession::lose(const char* why) {
  if (circuit_.closed()) {
    log(LogLevel::warn, "the server of shard {} is away: {}", shard_.value, why);
    circuit_.failed(loop_.now());
    doubted_ = false;
    if (!stopping_) listener_.on_away(*this);
  }
  peer_ = PeerId{};
  keep_signal_.raise();
  unpin_signal_.raise();
}

Task<> ShardSession::stop() {
  stopping_ = true;
  pins_.release_all();
  keep_signal_.raise();
  unpin_signal_.raise();
  Timer goodbye(loop_, [this] { calls_.cancel_all(); });
  goodbye.arm(loop_.now() + kGoodbye);
  while (running_ != 0) co_await stop_signal_;
  goodbye.cancel();
  calls_.cancel_all();
  if (const PeerId peer = std::exchange(peer_, PeerId{})) {
    Task<> closed = close(peer);
    co_await closed;
  }
}

// ---- what arrives

void ShardSession::on_message(PeerId peer, std::span<const std::byte> bytes) {
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (!frame) {
    lose("it sent what is no frame");
    loop_.spawn(close(peer));
    return;
  }
  const Epoch epoch = frame->header.epoch;
  if (epoch && epoch < proof_.epoch) return;  // a deposed leader
  calls_.on_frame(peer, *frame);
}

void ShardSession::on_lost(PeerId peer) {
  calls_.on_lost(peer);
  lose("the connection was lost");
}

}  // namespace membrain
