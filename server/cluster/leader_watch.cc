#include "server/cluster/leader_watch.h"

#include <cerrno>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

namespace {
constexpr Duration kConnectPatience = std::chrono::seconds(1);
constexpr Duration kRevokePatience = std::chrono::seconds(1);
/// Short: a leader that dies resets the first call, and refuses the next.
constexpr Duration kRetry = std::chrono::milliseconds(20);

/// The host answered that this port is nobody's. Whatever else keeps us from connecting may lie
/// between us and a leader that lives, or with ourselves.
bool nobody_listens(const Error& error) noexcept {
  return error.code == Errc::unavailable && error.native == ECONNREFUSED;
}

}  // namespace

LeaderWatch::LeaderWatch(Fabric& fabric, Membership& membership)
    : fabric_(fabric), membership_(membership), loop_(fabric.loop()), ended_(loop_.ready()) {
  fabric_.set_receiver(*this);
}

LeaderWatch::~LeaderWatch() {
  check(watched_.empty(), "a LeaderWatch was destroyed while it ran");
}

void LeaderWatch::follow(Election& election, const std::string& leader, LeaseId lease) {
  if (lease && !stopping_) {
    followed_[election.shard()] = {&election, leader, lease};
  } else {
    followed_.erase(election.shard());
  }
  for (const auto& [one, watched] : watched_) watched->wake.raise();
  if (!lease || stopping_ || watched_.contains(lease)) return;
  const auto watched = std::make_shared<Watched>(loop_);
  watched_[lease] = watched;
  loop_.spawn(watch(lease, watched));
}

Task<> LeaderWatch::stop() {
  stopping_ = true;
  followed_.clear();
  for (const auto& [lease, watched] : watched_) watched->wake.raise();
  while (!watched_.empty()) co_await ended_;
}

std::string LeaderWatch::address_of(LeaseId lease) const {
  for (const auto& [shard, followed] : followed_) {
    if (followed.lease == lease) return followed.leader;
  }
  return {};
}

/// While this server is to be watched: one connection after another.
Task<> LeaderWatch::watch(LeaseId lease, std::shared_ptr<Watched> watched) {
  Timer timer(loop_, [&watched] { watched->wake.raise(); });
  while (!address_of(lease).empty()) {
    Task<> connected = connect(lease, *watched, timer);
    co_await connected;
  }
  watched_.erase(lease);
  ended_.raise();
}

Task<> LeaderWatch::connect(LeaseId lease, Watched& watched, Timer& timer) {
  const std::string leader = address_of(lease);
  Task<Result<PeerId>> connecting = fabric_.connect(leader, loop_.now() + kConnectPatience);
  const Result<PeerId> peer = co_await connecting;
  if (peer) {
    watched.peer = *peer;
    while (!address_of(lease).empty() && watched.peer) co_await watched.wake;
    if (const PeerId left = std::exchange(watched.peer, PeerId{})) {
      Task<> closing = fabric_.close(left);
      co_await closing;
    }
    co_return;
  }
  // A server whose own membership is over judges nobody.
  const bool member = membership_.valid(loop_.clock().now());
  if (nobody_listens(peer.error()) && member && !address_of(lease).empty()) {
    log(LogLevel::warn, "the leader at {} is gone: its lease is ended", leader);
    Task<> ending = end(lease);
    co_await ending;
  }
  timer.arm(loop_.now() + kRetry);
  if (!address_of(lease).empty()) co_await watched.wake;
}

Task<> LeaderWatch::end(LeaseId lease) {
  Task<Result<>> revoking = membership_.coordination().revoke(lease, loop_.now() + kRevokePatience);
  static_cast<void>(co_await revoking);
  for (const auto& [shard, followed] : followed_) {
    if (followed.lease == lease) followed.election->look();
  }
}

void LeaderWatch::on_message(PeerId, std::span<const std::byte>, Payload) {}

void LeaderWatch::on_lost(PeerId peer, const Error&) {
  for (const auto& [lease, watched] : watched_) {
    if (watched->peer != peer) continue;
    watched->peer = {};
    watched->wake.raise();
  }
}

}  // namespace membrain
