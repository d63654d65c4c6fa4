// When a lease is over, as answers in whole seconds tell.
#include "server/cluster/lease_clock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>

namespace membrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kLease = seconds(3);
constexpr Duration kUsual = kLease / 3;
constexpr Duration kGrain = seconds(1);
const TimePoint kStart{std::chrono::hours(1)};

struct Watched {
  TimePoint over;  ///< when it was said to be over
  std::size_t questions = 0;
};

/// Asks as the clock wants it, each answer taking `way` there and back, until it says that the
/// lease is over, or `until`. `ends`: when it would end, if nobody renewed it after a time.
Watched watch(const std::function<TimePoint(TimePoint)>& ends, Duration way, TimePoint until) {
  LeaseClock clock(kGrain);
  Watched watched;
  for (TimePoint now = kStart; now < until; now = std::max(now, clock.ask_at())) {
    const TimePoint asked = now;
    const Duration left = std::max(Duration::zero(), ends(asked + way) - (asked + way));
    now += 2 * way;
    ++watched.questions;
    clock.heard(asked, now, {left / kGrain * kGrain, kLease});
    if (clock.over()) {
      watched.over = now;
      return watched;
    }
  }
  watched.over = TimePoint::max();
  return watched;
}

TEST(LeaseClockTest, AnEndIsNoticedAtOnce) {
  for (Duration phase{}; phase < kUsual; phase += milliseconds(7)) {
    for (const Duration way : {milliseconds(1), milliseconds(8)}) {
      // Renewed every second, the last time after four to five.
      const TimePoint last = kStart + seconds(5) - phase;
      const auto ends = [&](TimePoint now) {
        const Duration missed = last - std::min(now, last);
        return last - (missed + kUsual - Duration(1)) / kUsual * kUsual + kLease;
      };
      const Watched watched = watch(ends, way, kStart + seconds(20));
      ASSERT_GE(watched.over, last + kLease);
      ASSERT_LE(watched.over, last + kLease + milliseconds(120) + 2 * way);
      ASSERT_LT(watched.questions, 50U);
    }
  }
}

TEST(LeaseClockTest, OneThatIsRenewedIsNotOver) {
  for (const Duration every : {milliseconds(200), milliseconds(1000), milliseconds(1010),
                               milliseconds(1700), milliseconds(2400), milliseconds(2990)}) {
    for (Duration phase{}; phase < every; phase += milliseconds(37)) {
      const auto ends = [&](TimePoint now) {
        const TimePoint first = kStart - phase;
        return first + (now - first) / every * every + kLease;
      };
      const Watched watched = watch(ends, milliseconds(3), kStart + seconds(60));
      ASSERT_EQ(watched.over, TimePoint::max());
      if (every <= kUsual) {
        ASSERT_LT(watched.questions, 90U) << "seldom, while all is well";
      }
    }
  }
}

TEST(LeaseClockTest, OneThatIsExtendedByAnElectionInEtcdIsNotOver) {
  const TimePoint extended = kStart + seconds(2);
  const auto ends = [&](TimePoint now) {
    return now < extended ? kStart + kLease : extended + kLease;
  };
  const Watched watched = watch(ends, milliseconds(1), kStart + seconds(20));
  EXPECT_GE(watched.over, extended + kLease);
  EXPECT_LE(watched.over, extended + kLease + milliseconds(100));
}

}  // namespace
}  // namespace membrain
