// LeaseClock: when somebody else's lease is over, as far as answers in whole seconds tell. Pure.
#pragma once

#include <algorithm>

#include "base/clock.h"
#include "server/cluster/coordination.h"

namespace membrain {

/// Each answer says how many whole grains were left: at least those, and less than one more. The
/// least of what the answers allow is the end; one that allows none of it says that the lease was
/// renewed. Asked often while a grain begins, this is as exact as the answers are frequent.
///
/// It never says so too early. Where nothing is left of a lease after that end, and it had been
/// renewed since the answer that showed the end, a grain and more would be left: for so long a
/// renewal lasts. Leases must last for more than two grains; of others it never says that they are
/// over.
class LeaseClock {
 public:
  explicit LeaseClock(Duration grain) noexcept : grain_(grain) {}

  void heard(TimePoint asked, TimePoint answered, const LeaseTime& lease) noexcept {
    const TimePoint latest = answered + lease.left + grain_;
    const bool due = lease.left < grain_ && asked >= ends_by_;
    const bool renewed = asked + lease.left > ends_by_;
    over_ = due && answered + grain_ <= shown_ + lease.of;
    // A later answer proves more, if it is as good: when a grain has just begun.
    const bool as_good = lease.left < left_ && latest < ends_by_ + grain_ / 10;
    left_ = lease.left;
    if (renewed || latest < ends_by_ || as_good || (due && !over_)) {
      ends_by_ = latest;
      shown_ = asked;
    }
    const Duration usual = lease.of / 3;  // until it is renewed
    if (lease.left > usual) {
      ask_at_ = std::min(ends_by_, answered + usual);
    } else {
      ask_at_ = lease.left >= grain_ || over_ ? answered + grain_ / 20 : ends_by_;
    }
  }
  /// By the last answer it is.
  [[nodiscard]] bool over() const noexcept { return over_; }
  [[nodiscard]] TimePoint ask_at() const noexcept { return ask_at_; }

 private:
  Duration grain_;
  TimePoint ends_by_ = TimePoint::max();  ///< unless it is renewed
  TimePoint shown_{};                     ///< when that was asked for
  Duration left_{};                       ///< at the last answer
  TimePoint ask_at_{};
  bool over_ = false;
};

}  // namespace membrain
