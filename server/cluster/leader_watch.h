// LeaderWatch: notices at once that a leader's process has died, or that its lease is over.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "server/cluster/election.h"
#include "server/cluster/membership.h"
#include "transport/fabric.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// Keeps a connection to each server that leads a shard here followed. When it breaks and nobody
/// listens there any more (the connection is refused), that server's lease is revoked, which lets
/// everybody campaign at once. A leader that is stopped, cut off or slow still has its port: there
/// its lease must run out. That, too, is looked after: etcd itself looks only twice a second for
/// leases that are over. It is never unsafe to be wrong: the next leader has a later epoch, and the
/// one before is told that its lease is over.
///
/// Threads  The loop's.
class LeaderWatch final : private Receiver {
 public:
  /// Without a fabric no connections are kept: all leases must run out. A fabric is of the
  /// membership's loop, and outlives this.
  LeaderWatch(Fabric* fabric, Membership& membership);
  ~LeaderWatch();
  LeaderWatch(const LeaderWatch&) = delete;
  LeaderWatch& operator=(const LeaderWatch&) = delete;

  /// This election's shard is led there from now on; an empty address: by nobody. The election
  /// outlives the watch, or says so first.
  void follow(Election& election, const std::string& leader, LeaseId lease);
  Task<> stop();

 private:
  struct Followed {
    Election* election = nullptr;
    std::string leader;
    LeaseId lease;
  };
  /// One leading server, by its lease.
  struct Watched {
    explicit Watched(Loop& loop) : wake(loop.ready()), count(loop.ready()) {}
    Signal wake;
    Signal count;  ///< for what looks after the lease
    PeerId peer;
    std::uint32_t running = 0;  ///< of `watch` and `count_down`
  };

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;
  void wake_all();
  void begin(LeaseId lease, const std::shared_ptr<Watched>& watched, Task<> work);
  Task<> watch(LeaseId lease, std::shared_ptr<Watched> watched);
  Task<> count_down(LeaseId lease, std::shared_ptr<Watched> watched);
  Task<> connect(LeaseId lease, Watched& watched, Timer& timer);
  Task<> end(LeaseId lease, const char* why);
  /// A server whose own membership is over judges nobody.
  [[nodiscard]] bool judges() const;
  /// Where that server is reached; empty if nobody follows it any more.
  [[nodiscard]] std::string address_of(LeaseId lease) const;

  Fabric* fabric_;
  Membership& membership_;
  Loop& loop_;
  Signal ended_;
  std::map<ShardId, Followed> followed_;
  std::map<LeaseId, std::shared_ptr<Watched>> watched_;
  bool stopping_ = false;
};

}  // namespace membrain
