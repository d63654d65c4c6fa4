#include "server/cluster/leader_watch.h"

#include <cerrno>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "server/cluster/lease_clock.h"

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

LeaderWatch::LeaderWatch(Fabric* fabric, Membership& membership)
    : fabric_(fabric), membership_(membership), loop_(membership.loop()), ended_(loop_.ready()) {
  if (fabric_ != nullptr) fabric_->set_receiver(*this);
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
  wake_all();
  if (!lease || stopping_ || watched_.contains(lease)) return;
  const auto watched = std::make_shared<Watched>(loop_);
  watched_[lease] = watched;
  begin(lease, watched, count_down(lease, watched));
  if (fabric_ != nullptr) begin(lease, watched, watch(lease, watched));
}

void LeaderWatch::begin(LeaseId lease, const std::shared_ptr<Watched>& watched, Task<> work) {
  ++watched->running;
  loop_.spawn(
      [](LeaderWatch& self, LeaseId of, std::shared_ptr<Watched> one, Task<> working) -> Task<> {
        co_await working;
        if (--one->running != 0) co_return;
        self.watched_.erase(of);
        self.ended_.raise();
      }(*this, lease, watched, std::move(work)));
}

void LeaderWatch::wake_all() {
  for (const auto& [lease, watched] : watched_) {
    watched->wake.raise();
    watched->count.raise();
  }
}

Task<> LeaderWatch::stop() {
  stopping_ = true;
  followed_.clear();
  wake_all();
  while (!watched_.empty()) co_await ended_;
}

bool LeaderWatch::judges() const {
  return membership_.valid(loop_.clock().now());
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
}

/// While this server is to be watched: asks what is left of its lease.
Task<> LeaderWatch::count_down(LeaseId lease, std::shared_ptr<Watched> watched) {
  const Duration patience = membership_.config().lease / 3;
  LeaseClock clock(membership_.coordination().lease_grain());
  Timer timer(loop_, [&watched] { watched->count.raise(); });
  while (!address_of(lease).empty()) {
    const TimePoint asked = loop_.now();
    Task<Result<LeaseTime>> asking = membership_.coordination().time_left(lease, asked + patience);
    const Result<LeaseTime> left = co_await asking;
    if (left) clock.heard(asked, loop_.clock().now(), *left);
    if (left && clock.over() && judges() && !address_of(lease).empty()) {
      Task<> ending = end(lease, "has not renewed its lease, which is over");
      co_await ending;
    }
    timer.arm(left ? clock.ask_at() : loop_.now() + patience);
    if (!address_of(lease).empty()) co_await watched->count;
  }
}

Task<> LeaderWatch::connect(LeaseId lease, Watched& watched, Timer& timer) {
  const std::string leader = address_of(lease);
  Task<Result<PeerId>> connecting = fabric_->connect(leader, loop_.now() + kConnectPatience);
  const Result<PeerId> peer = co_await connecting;
  if (peer) {
    watched.peer = *peer;
    while (!address_of(lease).empty() && watched.peer) co_await watched.wake;
    if (const PeerId left = std::exchange(watched.peer, PeerId{})) {
      Task<> closing = fabric_->close(left);
      co_await closing;
    }
    co_return;
  }
  if (nobody_listens(peer.error()) && judges() && !address_of(lease).empty()) {
    Task<> ending = end(lease, "is gone: its lease is ended");
    co_await ending;
  }
  timer.arm(loop_.now() + kRetry);
  if (!address_of(lease).empty()) co_await watched.wake;
}

Task<> LeaderWatch::end(LeaseId lease, const char* why) {
  log(LogLevel::warn, "the leader at {} {}", address_of(lease), why);
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
