// LedShard: a shard service that serves while its server leads the shard.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "membrain/result.h"
#include "server/cluster/election.h"
#include "server/cluster/leader_watch.h"
#include "server/cluster/membership.h"
#include "server/shard_roster.h"
#include "server/shard_service.h"
#include "transport/fabric.h"

namespace membrain {

/// The election runs on the membership's loop, the service on its fabric's: one loop or two.
///
/// Ownership  Borrows the fabric, the membership and the watch, by which a server that follows
///            notices that the leader has died; without one it waits for the lease.
/// Threads    The membership's loop, if not said otherwise; both loops run.
class LedShard final : private ElectionListener, private Tenure {
 public:
  /// `roster` is told who leads.
  LedShard(Fabric& fabric, LeaderWatch* watch, Membership& membership, ShardConfig config,
           std::shared_ptr<ShardRoster> roster);
  ~LedShard();

  /// Takes first contacts, which it answers that it does not lead. Before the service's loop runs.
  Result<> listen(const Address& address) { return service_.listen(address); }
  /// After the membership has. Serves whenever it is elected; is reached at `address` then.
  void start(const Address& address);
  /// Stands no more; when this ends its service serves nothing. Before the membership stops.
  Task<> resign();
  /// After that, which may be now: ends when every connection is closed.
  Task<> stop();

  [[nodiscard]] ShardId shard() const noexcept { return shard_; }
  /// It is known who leads.
  [[nodiscard]] bool settled() const noexcept { return election_.settled(); }
  /// It leads, and nobody else can. For whoever turns both loops.
  [[nodiscard]] bool leads(TimePoint now) const noexcept { return service_.leads() && holds(now); }
  /// On its loop.
  [[nodiscard]] ShardService& service() noexcept { return service_; }
  [[nodiscard]] const ShardService& service() const noexcept { return service_; }
  [[nodiscard]] Loop& service_loop() const noexcept { return shard_loop_; }

 private:
  /// What the service is to be: the election's last word.
  struct Office {
    std::uint64_t number = 0;  ///< later words have higher ones
    std::optional<Term> term;  ///< none: it follows
    Address leader;
  };

  void on_lead(Term term) override;
  void on_follow(const std::string& leader, LeaseId lease) override;
  void on_hold(TimePoint until) override { holds_until_ = until.time_since_epoch().count(); }
  /// The service's loop.
  [[nodiscard]] bool holds(TimePoint now) const noexcept override {
    return now.time_since_epoch().count() < holds_until_.load();
  }
  Task<Result<>> set_era(Epoch epoch, NamespaceId space, Era era) override;

  void assign(std::optional<Term> term, const Address& leader);
  void take_office();
  Task<> hand_over(std::function<void()> job);
  Task<> keep_era(Epoch epoch, NamespaceId space, Era era, Completion& kept);
  Task<> end_service(Completion& ended);
  Task<> tell(Completion& ended);

  Loop& home_;
  Loop& shard_loop_;
  const ShardId shard_;
  const std::shared_ptr<ShardRoster> roster_;
  LeaderWatch* watch_;
  Address address_;
  Signal handed_over_;
  std::uint32_t handing_over_ = 0;
  std::atomic<Duration::rep> holds_until_;

  std::mutex mutex_;
  Office office_;            ///< guarded
  std::uint64_t taken_ = 0;  ///< the service's loop: the office that it holds

  ShardService service_;
  Election election_;
};

}  // namespace membrain
