// StaticCoordination: one server on one machine, which has nobody to agree with.
#pragma once

#include <memory>
#include <string>

#include "server/cluster/change_wait.h"
#include "server/cluster/coordination.h"
#include "server/cluster/kv_state.h"
#include "server/cluster/state_file.h"

namespace membrain {

/// Keys in this process, and those without a lease in a file. Leases end when they are revoked and
/// with the process, never by themselves: nobody else could take over.
///
/// Threads  The loop's. A commit waits for the disk.
class StaticCoordination final : public Coordination {
 public:
  /// Without a file: nothing outlives the process.
  explicit StaticCoordination(Loop& loop) noexcept : loop_(loop), waits_(loop) {}
  StaticCoordination(Loop& loop, std::unique_ptr<StateFile> file);

  Task<Result<Lease>> grant(Duration ttl, TimePoint deadline) override;
  Task<Result<Duration>> keep_alive(LeaseId lease, TimePoint deadline) override;
  Task<Result<LeaseTime>> time_left(LeaseId lease, TimePoint deadline) override;
  Task<Result<>> revoke(LeaseId lease, TimePoint deadline) override;
  Task<Result<CoordinationView>> read(std::string prefix, TimePoint deadline) override;
  Task<Result<Committed>> commit(CoordinationChange change, TimePoint deadline) override;
  Task<> changed(std::string prefix, Revision after, TimePoint deadline) override;
  Task<> stop() override;

 private:
  Loop& loop_;
  ChangeWaits waits_;
  KvState state_;
  std::unique_ptr<StateFile> file_;
  bool stopping_ = false;
};

}  // namespace membrain
