#include "server/shard_service.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace membrain {

namespace {

constexpr Duration kShortestTick = std::chrono::milliseconds(1);
constexpr Duration kLongestTick = std::chrono::milliseconds(250);

}  // namespace

ShardService::ShardService(Fabric& fabric, ShardConfig config)
    : fabric_(fabric), config_(std::move(config)), tick_timer_(fabric.loop(), [] {}) {
  tick_timer_.set_fire([this] { tick(); });
}

ShardService::~ShardService() {
  check(closing_ == 0 && clearing_ == 0, "a shard service was destroyed while it worked");
}

Result<> ShardService::listen(const Address& address) {
  fabric_.set_receiver(*this);
  Result<Address> bound = fabric_.listen(address);
  if (!bound) return fail(bound.error());
  address_ = std::move(*bound);
  log(LogLevel::info, "the server listens at {}", address_);
  return {};
}

void ShardService::lead(Term term, Tenure& tenure) {
  if (shard_ != nullptr) follow({});
  const Epoch epoch = term.epoch;
  ShardParams params;
  params.term = std::move(term);
  random_bytes(params.grant_key);
  params.session_ttl = config_.session_ttl;
  params.node_ttl = config_.node_ttl;
  params.expected_blocks = config_.expected_blocks;
  params.start = loop().clock().now();
  params.hash_seed = config_.random();
  params.sessions = config_.limits;
  params.replicas = config_.replicas;
  params.copies = config_.copies;
  shard_ = std::make_unique<Shard>(std::move(params));
  tenure_ = &tenure;
  log(LogLevel::info, "{} leads in epoch {}", address_, epoch.value);
  tick();
}

void ShardService::follow(const Address& leader) {
  leader_ = leader;
  if (shard_ == nullptr) return;
  log(LogLevel::info, "{} leads no more: its epoch {} is over", address_, shard_->epoch().value);
  tick_timer_.cancel();
  close_all();
  node_peers_.clear();
  shard_.reset();
  tenure_ = nullptr;
}

void ShardService::close_all() {
  for (const auto& [peer, proved] : std::exchange(peers_, {})) loop().spawn(close(PeerId{peer}));
}

Task<> ShardService::stop() {
  stopping_ = true;
  follow({});
  close_all();
  while (closing_ > 0 || clearing_ > 0) {
    const TimePoint soon = loop().now() + kShortestTick;
    co_await loop().sleep_until(soon);
  }
}

void ShardService::tick() {
  const TimePoint now = loop().clock().now();
  if (tenure_->holds(now)) {
    shard_->tick(now);
    share_copies();
    send_untold_frees();
    send_copy_orders();
  }
  const Duration usual = std::clamp<Duration>(std::min(config_.session_ttl, config_.node_ttl) / 8,
                                              kShortestTick, kLongestTick);
  tick_timer_.arm(now + (shard_->sweeping() ? kShortestTick : usual));
}

void ShardService::share_copies() {
  if (config_.roster == nullptr) return;
  if (const std::shared_ptr<const wire::ShardList> all = config_.roster->list()) {
    shard_->share_copies(all->shards.size());
  }
}

// ---- ends

void ShardService::on_lost(PeerId peer, const Error&) {
  forget(peer);
}

void ShardService::forget(PeerId peer) {
  const auto known = peers_.find(peer.value);
  if (known == peers_.end()) return;
  const Peer proved = known->second;
  peers_.erase(known);
  if (shard_ == nullptr) return;
  if (proved.session) shard_->disconnected(proved.session);
  const auto latest = node_peers_.find(proved.node);
  if (latest == node_peers_.end() || latest->second != peer) return;
  node_peers_.erase(latest);
  shard_->disconnected(proved.node);
}

void ShardService::expel(PeerId peer, const Error& why) {
  log(LogLevel::warn, "a connection was closed: {}", why.context);
  forget(peer);
  loop().spawn(close(peer));
}

Task<> ShardService::close(PeerId peer) {
  ++closing_;
  Task<> closed = fabric_.close(peer);
  co_await closed;
  --closing_;
}

ShardStatus ShardService::status() const {
  const TimePoint now = fabric_.loop().clock().now();
  ShardStatus status;
  status.shard = config_.shard;
  status.address = address_;
  status.leader = shard_ == nullptr ? leader_ : address_;
  if (shard_ == nullptr) return status;
  const ShardParams& params = shard_->params();
  status.range = params.term.range;
  status.epoch = shard_->epoch().value;
  status.uptime = std::chrono::duration_cast<std::chrono::milliseconds>(now - params.start);
  status.grace = shard_->in_grace(now);
  status.counters = shard_->stats()->counters;
  status.nodes = shard_->nodes().list(SIZE_MAX).nodes;
  const Namespaces& spaces = shard_->namespaces();
  for (SpaceIndex i = 0; i < std::min(spaces.count(), ShardStatus::kMaxNamed); ++i) {
    const Space& space = spaces[i];
    status.namespaces.push_back({space.id.value, space.era.value, space.label, space.tenant});
  }
  for (const auto& [id, session] : shard_->sessions().all()) {
    if (status.sessions.size() == ShardStatus::kMaxNamed) break;
    status.sessions.push_back(
        {session.label, session.tenant, session.connected, session.lookups.size()});
  }
  return status;
}

}  // namespace membrain
