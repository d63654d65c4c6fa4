// What befalls a cluster without torture's doing: a machine that is busy loses sessions, nodes and
// leaders by itself, and then more may happen to blocks than at other times. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "tools/block_history.h"
#include "tools/torture_house.h"

namespace membrain {

class TortureWatch {
 public:
  /// What a server notices, it notices this much later: a lease, or a time to live, and a tick.
  static constexpr std::chrono::seconds kLeaseAgo{5};
  static constexpr std::chrono::seconds kNodeAgo{7};
  static constexpr std::chrono::seconds kSessionAgo{13};
  /// The longest stop of an engine, and its session's time to live.
  static constexpr std::chrono::seconds kExpected{28};
  /// Until all have come back to a new leader.
  static constexpr std::chrono::seconds kAfter{2};

  explicit TortureWatch(std::uint64_t nodes) noexcept : nodes_(nodes) {}

  /// A session of whoever was killed or stopped now may end, within `kExpected`.
  void expect_end_of_session(TimePoint now) { expected_.push_back(now + kExpected); }

  /// What the leader says now, or that nobody does.
  [[nodiscard]] std::vector<Disturbance> see(TimePoint now,
                                             const std::optional<LeaderStatus>& status);

 private:
  [[nodiscard]] Disturbance since(std::chrono::seconds ago, TimePoint now, bool ends_pins) const;

  std::uint64_t nodes_;
  std::vector<TimePoint> expected_;
  TimePoint last_;
  std::optional<LeaderStatus> before_;
};

}  // namespace membrain
