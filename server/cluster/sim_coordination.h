// SimCoordination: etcd as a simulated cluster sees it.
#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "server/cluster/change_wait.h"
#include "server/cluster/coordination.h"
#include "server/cluster/kv_state.h"
#include "transport/loop.h"
#include "transport/sim_network.h"

namespace membrain {

/// The members of etcd, which agree with each other: one state. Every probability is drawn from the
/// network's luck.
struct SimCoordinator {
  explicit SimCoordinator(SimRandom& luck) noexcept : random(luck) {}

  SimRandom& random;
  KvState state;
  bool quorum = true;         ///< false: nothing is answered, no lease ends
  double lost_ask = 0;        ///< of a call: it never arrives, or long after its deadline
  double lost_answer = 0;     ///< of a call: it happens, and nobody is told
  std::uint64_t lost = 0;     ///< calls that were lost so
  std::uint64_t commits = 0;  ///< changes that were asked for
  Duration longest_delay = std::chrono::milliseconds(8);  ///< each way
  Duration grain = std::chrono::milliseconds(200);        ///< how finely the rest of leases is told
  Duration late_ends{};  ///< of leases, after their time; nobody renews them then
  Duration late_news{};  ///< at most, after a change, until a watch tells of it

  /// Leases whose time is over end, if there is a quorum.
  void pass_time(TimePoint now) {
    if (quorum) state.expire(now - late_ends);
  }
};

/// One server's way to it.
///
/// Threads  One.
class SimCoordination final : public Coordination {
 public:
  SimCoordination(Loop& loop, SimCoordinator& host) noexcept
      : loop_(loop), host_(host), waits_(loop) {}

  /// This server alone cannot reach it, while others can.
  void cut_off(bool on) noexcept { cut_off_ = on; }

  Task<Result<Lease>> grant(Duration ttl, TimePoint deadline) override;
  Task<Result<Duration>> keep_alive(LeaseId lease, TimePoint deadline) override;
  Task<Result<LeaseTime>> time_left(LeaseId lease, TimePoint deadline) override;
  [[nodiscard]] Duration lease_grain() const noexcept override { return host_.grain; }
  Task<Result<>> revoke(LeaseId lease, TimePoint deadline) override;
  Task<Result<CoordinationView>> read(std::string prefix, TimePoint deadline) override;
  Task<Result<Committed>> commit(CoordinationChange change, TimePoint deadline) override;
  Task<> changed(std::string prefix, Revision after, TimePoint deadline) override;
  Task<> stop() override;

 private:
  /// One way. False if it does not get there by the deadline, which is then over.
  Task<bool> travel(TimePoint deadline, double loss);
  template <class Answer, class Act>
  Task<Result<Answer>> call(TimePoint deadline, Act act);
  /// Nobody waits for it any more.
  template <class Act>
  Task<> call_late(Act act);

  Loop& loop_;
  SimCoordinator& host_;
  ChangeWaits waits_;
  std::uint32_t calls_ = 0;
  bool cut_off_ = false;
  bool stopping_ = false;
};

}  // namespace membrain
