#include "server/cluster/leader_watch.h"

#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

namespace {
constexpr Duration kConnectPatience = std::chrono::seconds(1);
constexpr Duration kRevokePatience = std::chrono::seconds(1);
constexpr Duration kRetry = std::chrono::milliseconds(100);
}  // namespace

LeaderWatch::LeaderWatch(Fabric& fabric, Membership& membership, Election& election)
    : fabric_(fabric),
      membership_(membership),
      election_(election),
      loop_(fabric.loop()),
      wake_(loop_.ready()),
      ended_(loop_.ready()) {
  fabric_.set_receiver(*this);
}

LeaderWatch::~LeaderWatch() {
  check(!running_, "a LeaderWatch was destroyed while it ran");
}

void LeaderWatch::follow(const std::string& leader, LeaseId lease) {
  if (lease == lease_ && leader == leader_) return;
  leader_ = leader;
  lease_ = lease;
  wake_.raise();
  if (running_ || stopping_ || !lease_) return;
  running_ = true;
  loop_.spawn(run());
}

Task<> LeaderWatch::stop() {
  stopping_ = true;
  wake_.raise();
  while (running_) co_await ended_;
}

Task<> LeaderWatch::run() {
  while (!stopping_ && lease_) {
    Task<> watching = watch(leader_, lease_);
    co_await watching;
  }
  running_ = false;
  ended_.raise();
}

/// While this leader is to be watched: one connection after another.
Task<> LeaderWatch::watch(std::string leader, LeaseId lease) {
  Timer timer(loop_, [this] { wake_.raise(); });
  while (watches(lease)) {
    Task<Result<PeerId>> connecting = fabric_.connect(leader, loop_.now() + kConnectPatience);
    const Result<PeerId> peer = co_await connecting;
    if (peer) {
      peer_ = *peer;
      while (watches(lease) && peer_) co_await wake_;
      if (const PeerId left = std::exchange(peer_, PeerId{})) {
        Task<> closing = fabric_.close(left);
        co_await closing;
      }
      continue;
    }
    if (peer.error().code == Errc::unavailable && watches(lease)) {
      log(LogLevel::warn, "the leader at {} is gone: its lease is ended", leader);
      Task<> ending = end(lease);
      co_await ending;
    }
    timer.arm(loop_.now() + kRetry);
    if (watches(lease)) co_await wake_;
  }
}

Task<> LeaderWatch::end(LeaseId lease) {
  Task<Result<>> revoking = membership_.coordination().revoke(lease, loop_.now() + kRevokePatience);
  static_cast<void>(co_await revoking);
  election_.look();
}

void LeaderWatch::on_message(PeerId, std::span<const std::byte>, Payload) {}

void LeaderWatch::on_lost(PeerId peer, const Error&) {
  if (peer != peer_) return;
  peer_ = {};
  wake_.raise();
}

}  // namespace membrain
