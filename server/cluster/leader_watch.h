// LeaderWatch: notices at once that the leader's process has died.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "server/cluster/election.h"
#include "server/cluster/membership.h"
#include "transport/fabric.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// Keeps a connection to the leader. When it breaks and nobody listens there any more, the leader's
/// lease is revoked, which lets everybody campaign at once. A leader that is stopped, cut off or
/// slow still has its port: there its lease must run out. It is never unsafe to be wrong: the next
/// leader has a later epoch, and the one before is told that its lease is over.
///
/// Threads  The loop's.
class LeaderWatch final : private Receiver {
 public:
  LeaderWatch(Fabric& fabric, Membership& membership, Election& election);
  ~LeaderWatch();
  LeaderWatch(const LeaderWatch&) = delete;
  LeaderWatch& operator=(const LeaderWatch&) = delete;

  /// Watches this leader from now on; an empty address: nobody.
  void follow(const std::string& leader, LeaseId lease);
  Task<> stop();

 private:
  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;
  Task<> run();
  Task<> watch(std::string leader, LeaseId lease);
  Task<> end(LeaseId lease);
  [[nodiscard]] bool watches(LeaseId lease) const noexcept { return !stopping_ && lease == lease_; }

  Fabric& fabric_;
  Membership& membership_;
  Election& election_;
  Loop& loop_;
  Signal wake_;
  Signal ended_;
  std::string leader_;
  LeaseId lease_;
  PeerId peer_;
  bool running_ = false;
  bool stopping_ = false;
};

}  // namespace membrain
