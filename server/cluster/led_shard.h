// LedShard: a shard service that serves while its server leads the shard.
#pragma once

#include <memory>
#include <string>

#include "membrain/result.h"
#include "server/cluster/election.h"
#include "server/cluster/leader_watch.h"
#include "server/cluster/membership.h"
#include "server/shard_service.h"
#include "transport/fabric.h"

namespace membrain {

/// Ownership  Borrows the fabrics and the membership. `watch` is a fabric of its own, over which a
///            server that follows keeps a connection to the leader; null: it waits for the lease.
/// Threads    The loop's: all of them are on one.
class LedShard final : private ElectionListener {
 public:
  LedShard(Fabric& fabric, Fabric* watch, Membership& membership, ShardConfig config);

  /// Takes first contacts, which it answers that it does not lead.
  Result<> listen(const Address& address) { return service_.listen(address); }
  /// After the membership has. Serves whenever it is elected.
  void start() { election_.start(); }
  /// Before the membership stops.
  Task<> stop();

  /// It is known who leads.
  [[nodiscard]] bool settled() const noexcept { return election_.settled(); }
  /// It leads, and nobody else can.
  [[nodiscard]] bool leads(TimePoint now) const noexcept {
    return service_.leads() && election_.holds(now);
  }
  [[nodiscard]] ShardService& service() noexcept { return service_; }

 private:
  void on_lead(Term term) override;
  void on_follow(const std::string& leader, LeaseId lease) override;

  ShardService service_;
  Election election_;
  std::unique_ptr<LeaderWatch> watch_;
};

}  // namespace membrain
