// KvState: keys with revisions, conditions and leases, as etcd has them. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "server/cluster/coordination.h"

namespace membrain {

/// What StaticCoordination keeps and what the simulator plays etcd with.
///
/// Time     A parameter.
/// Threads  One. `fire` of a watch is called inside the call that changes something, once.
class KvState {
 public:
  using Fire = std::function<void()>;
  using WatchId = std::uint64_t;
  static constexpr std::size_t kRemembered = 1024;  ///< changes that a late watch still sees

  LeaseId grant(Duration ttl, TimePoint now);
  /// How long it lasts from now on; none if it is over.
  std::optional<Duration> keep_alive(LeaseId lease, TimePoint now);
  /// The same where time ends no lease.
  [[nodiscard]] std::optional<Duration> renew(LeaseId lease) const;
  /// None if it was ended.
  [[nodiscard]] std::optional<LeaseTime> time_left(LeaseId lease, TimePoint now,
                                                   Duration grain) const;
  void revoke(LeaseId lease);
  /// Leases whose time is over end.
  void expire(TimePoint now);
  /// When the next one does.
  [[nodiscard]] std::optional<TimePoint> next_expiry() const;

  [[nodiscard]] CoordinationView read(std::string_view prefix) const;
  /// Told what will last before it counts; its error is the answer then, and nothing has changed.
  using Persist = std::function<Result<>(const CoordinationView& lasting)>;
  /// `done` is false too for a put under a lease that is over.
  Result<Committed> commit(const CoordinationChange& change, const Persist& persist = {});

  /// Calls `fire` at the first change after `after` of a key that begins with `prefix`: now, if it
  /// has happened or that is no longer known.
  WatchId watch(std::string prefix, Revision after, Fire fire);
  void unwatch(WatchId id) { watches_.erase(id); }

  [[nodiscard]] Revision revision() const noexcept { return revision_; }
  /// What was persisted, into a fresh one.
  void restore(CoordinationView view);

 private:
  struct Lease {
    Duration ttl{};
    TimePoint ends;
  };
  struct Watch {
    std::string prefix;
    Fire fire;
  };
  using Entries = std::map<std::string, CoordinationEntry, std::less<>>;
  [[nodiscard]] bool holds(const CoordinationChange& change) const;
  static CoordinationView lasting(const Entries& entries, Revision revision);
  void note(const std::string& key);

  Revision revision_ = 0;
  std::uint64_t next_lease_ = 1;
  WatchId next_watch_ = 1;
  Entries entries_;
  std::map<LeaseId, Lease> leases_;
  std::map<WatchId, Watch> watches_;
  std::deque<std::pair<Revision, std::string>> changes_;
  Revision forgotten_ = 0;  ///< of changes up to here is no trace left
};

}  // namespace membrain
