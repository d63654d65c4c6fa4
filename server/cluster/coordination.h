// Coordination: the few small things that all servers of a cluster must agree on.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "membrain/result.h"
#include "transport/loop.h"
#include "transport/task.h"

namespace membrain {

/// A promise to be alive: what was put under it goes when it is not renewed. Zero is none.
struct LeaseId {
  std::uint64_t value = 0;
  constexpr explicit operator bool() const noexcept { return value != 0; }
  constexpr auto operator<=>(const LeaseId&) const = default;
};

struct Lease {
  LeaseId id;
  Duration lasts{};  ///< from the moment at which it was asked for
};

struct LeaseTime {
  Duration left{};  ///< in whole grains, rounded down; zero too until one that is over is ended
  Duration of{};    ///< how long it lasts when it is renewed
};

/// A count of all changes so far. Never goes back.
using Revision = std::uint64_t;

struct CoordinationEntry {
  std::string key;
  std::string value;
  Revision created = 0;  ///< a key that was removed and put again has another
  Revision modified = 0;
  LeaseId lease;
};

/// What was there at a revision, in the order of the keys.
struct CoordinationView {
  Revision revision = 0;
  std::vector<CoordinationEntry> entries;

  [[nodiscard]] const CoordinationEntry* find(std::string_view key) const noexcept {
    for (const CoordinationEntry& entry : entries) {
      if (entry.key == key) return &entry;
    }
    return nullptr;
  }
};

/// All of it happens, or, if one condition does not hold, nothing.
struct CoordinationChange {
  struct Created {
    std::string key;
    Revision at = 0;  ///< 0: there is no such key
  };
  struct Modified {
    std::string key;
    Revision at = 0;
  };
  struct Put {
    std::string key;
    std::string value;
    LeaseId lease;
  };
  std::vector<Created> if_created;
  std::vector<Modified> if_modified;
  std::vector<Put> puts;
  std::vector<std::string> removals;
};

/// One of those that hold it, as it says of itself.
struct CoordinationMember {
  std::string address;
  std::string version;      ///< empty: it does not answer
  bool has_leader = false;  ///< false: it is cut off from the others, or they are too few
  std::uint64_t bytes = 0;  ///< of its storage
};

struct Committed {
  bool done = false;  ///< false: a condition did not hold
  Revision revision = 0;
};

/// Linearizable keys and leases. Holds membership, leaders and eras: kilobytes that change when
/// servers come and go. Blocks, pins and sessions never go there.
///
/// Threads  One loop's. Nothing blocks it.
/// Errors   Of every call: `unavailable` and `timed_out` (it may have happened all the same),
///          `denied`, `out_of_capacity`, `corrupt` for answers that make no sense.
class Coordination {
 public:
  virtual ~Coordination() = default;

  /// A new lease. What is granted may be longer than `ttl`.
  virtual Task<Result<Lease>> grant(Duration ttl, TimePoint deadline) = 0;
  /// Renews; how long it lasts from the moment at which this was asked. `not_found`: it is over.
  virtual Task<Result<Duration>> keep_alive(LeaseId lease, TimePoint deadline) = 0;
  /// How much is left of a lease, anybody's. `not_found`: it was ended.
  virtual Task<Result<LeaseTime>> time_left(LeaseId lease, TimePoint deadline) = 0;
  /// How finely that is told.
  [[nodiscard]] virtual Duration lease_grain() const noexcept { return std::chrono::seconds(1); }
  /// Ends a lease, anybody's, and what was put under it. One that is over is no error.
  virtual Task<Result<>> revoke(LeaseId lease, TimePoint deadline) = 0;

  /// All keys that begin with `prefix`.
  virtual Task<Result<CoordinationView>> read(std::string prefix, TimePoint deadline) = 0;
  virtual Task<Result<Committed>> commit(CoordinationChange change, TimePoint deadline) = 0;
  /// Ends when something that begins with `prefix` has changed after `after`, at the deadline, when
  /// it cannot be told any more, and at `stop`: whoever asks reads again.
  virtual Task<> changed(std::string prefix, Revision after, TimePoint deadline) = 0;

  /// Each of those that hold it, whether or not the others answer; none where this process does.
  virtual Task<std::vector<CoordinationMember>> members(TimePoint) {
    co_return std::vector<CoordinationMember>();
  }

  /// Ends every call; ends when all have. Before it is destroyed.
  virtual Task<> stop() = 0;
};

}  // namespace membrain
