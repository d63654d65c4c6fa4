#include "cache/client/session.h"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "base/log.h"
#include "protocol/proofs.h"

namespace membrain {

namespace {

/// Clients that start together must not come back together.
std::uint64_t jitter_seed(const ClientConfig& config) {
  const std::hash<std::string> hash;
  return hash(config.label) * 31 + hash(config.tenant);
}

}  // namespace

ShardSession::ShardSession(Fabric& control, const ClientConfig& config, SessionListener& listener)
    : fabric_(control),
      loop_(control.loop()),
      config_(config),
      listener_(listener),
      tenant_key_(membrain::tenant_key(config.secret, config.tenant)),
      servers_(config.server),
      calls_(control),
      circuit_(jitter_seed(config),
               servers_.count() > 1 ? Circuit::kLongestOfSeveral : Circuit::kLongestDelay),
      keep_signal_(loop_.ready()),
      unpin_signal_(loop_.ready()),
      stop_signal_(loop_.ready()) {
  fabric_.set_receiver(*this);
}

ShardSession::~ShardSession() {
  check(running_ == 0, "a ShardSession was destroyed before it was stopped");
}

wire::Header ShardSession::header() const noexcept {
  wire::Header head;
  head.epoch = proof_.epoch;
  return head;
}

Duration ShardSession::beat_every() const noexcept {
  return std::max<Duration>(ttl_ / 3, std::chrono::milliseconds(1));
}

// ---- connecting

Task<Result<>> ShardSession::start() {
  const TimePoint deadline = loop_.now() + config_.connect_timeout;
  Result<> outcome;
  while (true) {
    Task<Result<>> connected = connect(deadline);
    outcome = co_await connected;
    const bool elected_soon = !outcome && servers_.count() > 1 &&
                              outcome.error().code != Errc::denied &&
                              loop_.now() + Circuit::kLongestOfSeveral < deadline;
    if (!elected_soon) break;
    const TimePoint later = loop_.now() + Circuit::kLongestOfSeveral;
    co_await loop_.sleep_until(later);
  }
  if (!outcome && outcome.error().code == Errc::timed_out) {
    co_return fail(Errc::unavailable, "no server answers there");
  }
  if (!outcome) co_return outcome;
  running_ += 2;
  loop_.spawn(keep());
  loop_.spawn(unpin());
  co_return Result<>{};
}

/// To whoever leads: each server is tried once.
Task<Result<>> ShardSession::connect(TimePoint deadline) {
  Result<> outcome;
  for (std::size_t tried = 0; tried < servers_.count(); ++tried) {
    const TimePoint now = loop_.now();
    if (stopping_ || (tried > 0 && now >= deadline)) break;
    Task<Result<>> connected = connect_to(servers_.current(), servers_.patience(now, deadline));
    outcome = co_await connected;
    if (outcome || outcome.error().code == Errc::denied) break;
    servers_.next();
  }
  co_return outcome;
}

Task<Result<>> ShardSession::connect_to(Address server, TimePoint deadline) {
  Task<Result<PeerId>> connecting = fabric_.connect(std::move(server), deadline);
  const Result<PeerId> peer = co_await connecting;
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
  listener_.on_here(proof_);
  unpin_signal_.raise();
  co_return Result<>{};
}

Task<Result<>> ShardSession::introduce(TimePoint deadline) {
  wire::Hello hello;
  hello.tenant = config_.tenant;
  hello.proof = hello_proof(tenant_key_, config_.tenant, fabric_.binding(peer_));
  hello.resume = proof_.session;
  hello.label = config_.label;
  Task<Result<wire::Welcome>> asked = calls_.call<wire::Welcome>(peer_, std::move(hello), deadline);
  const Result<wire::Welcome> welcome = co_await asked;
  if (!welcome) co_return fail(welcome.error());
  if (welcome->proof.epoch < proof_.epoch) {
    log(LogLevel::warn, "the server at {} speaks for an older epoch: ignored", servers_.current());
    co_return fail(Errc::unavailable, "the server's epoch is older than one already seen");
  }
  proof_ = welcome->proof;
  ttl_ = std::chrono::milliseconds(welcome->ttl_ms);
  max_keys_ = std::clamp<std::size_t>(welcome->max_keys, 1, wire::kMaxKeys);
  Task<Result<>> asserted = assert_again(deadline);
  if (const Result<> outcome = co_await asserted; !outcome) co_return outcome;
  Task<Result<>> listed = fetch_nodes(deadline);
  co_return co_await listed;
}

/// Namespaces and pins of the session before, for the new one. What a pin no longer finds is lost:
/// a fetch of it will be `stale`.
Task<Result<>> ShardSession::assert_again(TimePoint deadline) {
  std::vector<wire::OpenNamespace> spaces;
  for (const auto& [id, request] : opened_) spaces.push_back(request);
  for (wire::OpenNamespace& request : spaces) {
    const wire::Header head = header();
    Task<Result<wire::NamespaceOpened>> asked =
        calls_.call<wire::NamespaceOpened>(peer_, std::move(request), deadline, head);
    const Result<wire::NamespaceOpened> opened = co_await asked;
    if (!opened) co_return fail(opened.error());
  }
  const std::vector<LookupId> held = pins_.held();
  for (const LookupId lookup : held) {
    const HeldPin* pin = pins_.find(lookup);
    if (pin == nullptr) continue;  // released meanwhile
    wire::LookupSection section;
    section.space = pin->space;
    section.rule = wire::LookupRule::all;
    section.parts = pin->parts;
    section.keys.assign(pin->keys.begin(), pin->keys.end());
    wire::Lookup request;
    request.session = proof_.session;
    request.lookup = lookup;
    request.mode = wire::LookupMode::pin;
    request.sections.push_back(std::move(section));
    const wire::Header head = header();
    Task<Result<wire::Found>> asked =
        calls_.call<wire::Found>(peer_, std::move(request), deadline, head);
    const Result<wire::Found> found = co_await asked;
    if (!found) co_return fail(found.error());
  }
  co_return Result<>{};
}

Task<Result<wire::NamespaceOpened>> ShardSession::open(wire::OpenNamespace request,
                                                       TimePoint deadline) {
  wire::OpenNamespace again = request;
  Task<Result<wire::NamespaceOpened>> asked =
      ask<wire::NamespaceOpened>(std::move(request), deadline);
  Result<wire::NamespaceOpened> opened = co_await asked;
  if (opened) opened_.insert_or_assign(opened->id, std::move(again));
  co_return std::move(opened);
}

// ---- nodes

bool ShardSession::knows(NodeId node, Incarnation incarnation) const noexcept {
  const auto found = nodes_.find(node);
  return found != nodes_.end() && found->second == incarnation;
}

Task<Result<>> ShardSession::fetch_nodes(TimePoint deadline) {
  const wire::Nodes request;
  const wire::Header head = header();
  Task<Result<wire::NodeList>> asked = calls_.call<wire::NodeList>(peer_, request, deadline, head);
  const Result<wire::NodeList> list = co_await asked;
  if (!list) co_return fail(list.error());
  nodes_.clear();
  for (const wire::NodeEntry& entry : list->nodes) nodes_[entry.node] = entry.incarnation;
  listener_.on_nodes(list->nodes);
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
Task<> ShardSession::keep() {
  Timer timer(loop_, [this] { keep_signal_.raise(); });
  TimePoint next_beat = loop_.now() + beat_every();
  while (!stopping_) {
    const bool is_here = circuit_.closed();
    const TimePoint beat_at = doubted_ ? loop_.now() : next_beat;
    const TimePoint due = is_here ? beat_at : circuit_.retry_at();
    if (loop_.now() < due) {
      timer.arm(due);
      co_await keep_signal_;
    } else if (is_here) {
      next_beat = loop_.now() + beat_every();
      Task<> beaten = beat();
      co_await beaten;
    } else {
      const TimePoint deadline = loop_.now() + config_.connect_timeout;
      Task<Result<>> connected = connect(deadline);
      const Result<> outcome = co_await connected;
      if (!outcome) circuit_.failed(loop_.now());
      if (outcome) log(LogLevel::info, "the server at {} is back", servers_.current());
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
  const Result<wire::Alive> alive = co_await asked;
  if (peer != peer_ || stopping_) co_return;
  if (!alive) {
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
  if (servers_.count() == 1 || !here()) return;
  doubted_ = true;
  keep_signal_.raise();
}

void ShardSession::lose(const char* why) {
  if (circuit_.closed()) {
    log(LogLevel::warn, "the server at {} is away: {}", servers_.current(), why);
    circuit_.failed(loop_.now());
    doubted_ = false;
    if (!stopping_) listener_.on_away();
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

void ShardSession::on_message(PeerId peer, std::span<const std::byte> bytes, Payload) {
  if (peer != peer_) return;
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

void ShardSession::on_lost(PeerId peer, const Error&) {
  calls_.on_lost(peer);
  if (peer == peer_) lose("the connection was lost");
}

}  // namespace membrain
