// What a client believes of its lanes, without I/O: breakers, quantiles, averages, budgets.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cache/client/breaker.h"
#include "cache/client/lane_book.h"
#include "cache/client/lane_model.h"
#include "cache/client/quantile.h"
#include "cache/client/share_budget.h"

namespace membrain {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using State = Breaker::State;

constexpr TimePoint kStart{std::chrono::hours(1)};
constexpr NodeId kNode{7};

/// A breaker that has just opened, and the time.
struct Opened {
  explicit Opened(std::uint64_t seed = 1) : random(seed) {
    for (std::uint32_t i = 0; i < Breaker::kFailuresToOpen; ++i) fail();
  }
  void fail() { breaker.failed(now, next_random(random), breaker.enter(now)); }
  std::uint64_t random;
  TimePoint now = kStart;
  Breaker breaker;
};

TEST(Breaker, IsClosedAndDoubtsNothingAtFirst) {
  const Breaker breaker;
  EXPECT_EQ(breaker.state(kStart), State::closed);
  EXPECT_TRUE(breaker.admits(kStart));
  EXPECT_FALSE(breaker.doubted(kStart));
}

TEST(Breaker, OpensAfterThreeFailuresInARowAndNotBefore) {
  Breaker breaker;
  for (int i = 0; i < 2; ++i) {
    breaker.failed(kStart, 5, breaker.enter(kStart));
    EXPECT_EQ(breaker.state(kStart), State::closed);
    EXPECT_TRUE(breaker.doubted(kStart));
  }
  breaker.succeeded();
  EXPECT_FALSE(breaker.doubted(kStart));
  for (int i = 0; i < 2; ++i) breaker.failed(kStart, 5, breaker.enter(kStart));
  EXPECT_EQ(breaker.state(kStart), State::closed) << "a success begins anew";
  breaker.failed(kStart, 5, breaker.enter(kStart));
  EXPECT_EQ(breaker.state(kStart), State::open);
  EXPECT_FALSE(breaker.admits(kStart));
}

TEST(Breaker, DoubtsForAWhileThatGrows) {
  Breaker breaker;
  breaker.failed(kStart, 0, {});
  EXPECT_EQ(breaker.retry_at() - kStart, Breaker::kFirstDelay / 2) << "the least jitter";
  EXPECT_FALSE(breaker.doubted(breaker.retry_at()));
  breaker.failed(kStart, 0, {});
  EXPECT_EQ(breaker.retry_at() - kStart, Breaker::kFirstDelay);
}

TEST(Breaker, IsHalfOpenAfterAJitteredDelayThatGrowsToItsLongest) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Opened opened(seed);
    Duration whole = Breaker::kFirstDelay * 4;  // the third of doubling ones
    for (int round = 0; round < 12; ++round) {
      const Duration delay = opened.breaker.retry_at() - opened.now;
      EXPECT_GE(delay, whole / 2);
      EXPECT_LE(delay, whole);
      EXPECT_EQ(opened.breaker.state(opened.breaker.retry_at() - Duration(1)), State::open);
      opened.now = opened.breaker.retry_at();
      EXPECT_EQ(opened.breaker.state(opened.now), State::half_open);
      opened.fail();
      EXPECT_EQ(opened.breaker.state(opened.now), State::open);
      whole = std::min<Duration>(whole * 2, Breaker::kLongestDelay);
    }
  }
  EXPECT_NE(Opened(1).breaker.retry_at(), Opened(2).breaker.retry_at());
}

TEST(Breaker, LetsABoundedNumberOfProbesGoWhileHalfOpen) {
  Opened opened;
  opened.now = opened.breaker.retry_at();
  std::vector<Breaker::Pass> probes;
  while (opened.breaker.admits(opened.now)) probes.push_back(opened.breaker.enter(opened.now));
  EXPECT_EQ(probes.size(), Breaker::kProbes);
  opened.breaker.give_back(probes.back());
  EXPECT_TRUE(opened.breaker.admits(opened.now)) << "one was taken back";
  opened.breaker.give_back({});
  static_cast<void>(opened.breaker.enter(opened.now));
  EXPECT_FALSE(opened.breaker.admits(opened.now + seconds(1)));
}

TEST(Breaker, ClosesOnASuccessAndBeginsAnew) {
  Opened opened;
  opened.now = opened.breaker.retry_at();
  static_cast<void>(opened.breaker.enter(opened.now));
  opened.breaker.succeeded();
  EXPECT_EQ(opened.breaker.state(opened.now), State::closed);
  opened.breaker.failed(opened.now, ~std::uint64_t{0}, {});
  EXPECT_LE(opened.breaker.retry_at() - opened.now, Breaker::kFirstDelay);
}

TEST(Breaker, DoesNotCountWhatWasSentBeforeItOpened) {
  Opened opened;
  const TimePoint retry = opened.breaker.retry_at();
  opened.breaker.failed(kStart, 9, {});
  EXPECT_EQ(opened.breaker.retry_at(), retry) << "while open";
  opened.now = retry;
  const Breaker::Pass probe = opened.breaker.enter(opened.now);
  opened.breaker.failed(opened.now, 9, {});
  EXPECT_EQ(opened.breaker.state(opened.now), State::half_open) << "not the probe";
  opened.breaker.failed(opened.now, 9, probe);
  EXPECT_EQ(opened.breaker.state(opened.now), State::open);
  opened.now = opened.breaker.retry_at();
  static_cast<void>(opened.breaker.enter(opened.now));
  opened.breaker.give_back(probe);
  EXPECT_FALSE(opened.breaker.admits(opened.now)) << "a probe of the time before is nobody's now";
}

TEST(Breaker, TakesALostConnectionForCertainWhoeverHadIt) {
  Opened opened;
  opened.now = opened.breaker.retry_at();
  opened.breaker.lost(opened.now, 9);
  EXPECT_EQ(opened.breaker.state(opened.now), State::open);
}

TEST(Breaker, IsHalfOpenAtOnceWhenAConnectionIsMade) {
  Opened opened;
  opened.breaker.reachable(opened.now);
  EXPECT_EQ(opened.breaker.state(opened.now), State::half_open);
  const Breaker::Pass probe = opened.breaker.enter(opened.now);
  EXPECT_FALSE(opened.breaker.admits(opened.now)) << "a connection is no answer";
  opened.breaker.failed(opened.now, 0, probe);
  EXPECT_EQ(opened.breaker.retry_at() - opened.now, Breaker::kFirstDelay * 4)
      << "half of a delay that has grown";
}

// ---- quantiles

double uniform(std::uint64_t& seed) {
  return static_cast<double>(next_random(seed) >> 11) / 9007199254740992.0;
}

TEST(Quantile, ComesCloseToTheExactOneForManyShapes) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    std::uint64_t random = seed;
    P2Quantile estimate(0.95);
    std::vector<double> numbers;
    for (int i = 0; i < 5000; ++i) {
      const double x = uniform(random);
      const double number = seed % 2 == 0 ? x : x < 0.9 ? 1 + x : 10 + 5 * uniform(random);
      numbers.push_back(number);
      estimate.add(number);
    }
    std::sort(numbers.begin(), numbers.end());
    EXPECT_GE(estimate.value(), numbers[4600]) << seed;
    EXPECT_LE(estimate.value(), numbers[4900]) << seed;
  }
}

TEST(Quantile, OfAFewNumbersIsOneOfThem) {
  P2Quantile median(0.5);
  EXPECT_EQ(median.value(), 0);
  for (const double number : {5.0, 1.0, 3.0}) median.add(number);
  EXPECT_EQ(median.value(), 3);
  P2Quantile same(0.95);
  for (int i = 0; i < 1000; ++i) same.add(4);
  EXPECT_EQ(same.value(), 4);
}

TEST(Quantile, OfLateForgetsWhatWasLongAgo) {
  RecentQuantile recent(0.95);
  for (std::uint64_t i = 0; i + 1 < RecentQuantile::kEnough; ++i) recent.add(100);
  EXPECT_FALSE(recent.value());
  for (int i = 0; i < 1000; ++i) recent.add(100);
  EXPECT_EQ(recent.value(), 100);
  for (std::uint64_t i = 0; i < 2 * RecentQuantile::kEpoch; ++i) recent.add(1);
  EXPECT_EQ(recent.value(), 1);
}

// ---- lanes

TEST(LaneModel, KnowsNothingAtFirst) {
  const LaneModel lane;
  EXPECT_FALSE(lane.expected(0, 1000, kStart));
  EXPECT_FALSE(lane.p95());
  EXPECT_EQ(lane.hedge_after(0), LaneModel::kUnknownHedge);
  EXPECT_EQ(lane.patience(0), LaneModel::kUnknownPatience);
  EXPECT_FALSE(lane.hedge_after(1000)) << "how long these take is not known";
}

TEST(LaneModel, ExpectsLatencyAndTheTimeOfAllBytesAhead) {
  LaneModel lane;
  lane.answered(microseconds(100), kStart);
  EXPECT_EQ(lane.expected(0, 1 << 20, kStart), microseconds(100)) << "no bandwidth yet";
  lane.moved(100, microseconds(1), kStart);
  EXPECT_EQ(lane.bytes_per_second(), 0) << "too few bytes tell nothing";
  lane.moved(1'000'000, milliseconds(1), kStart);
  EXPECT_EQ(lane.expected(1'000'000, 1'000'000, kStart), microseconds(2100));
  lane.moved(1'000'000, microseconds(500), kStart);
  EXPECT_NEAR(lane.bytes_per_second(), 1.125e9, 1e6) << "an eighth of the way";
  EXPECT_FALSE(lane.expected(0, 1, kStart + LaneModel::kMemory + Duration(1)))
      << "what was long ago says nothing";
}

TEST(LaneModel, WaitsForAsLongAsIsUsualAndNeverLessThanTheLeast) {
  LaneModel lane;
  for (int i = 0; i < 100; ++i) lane.answered(microseconds(50), kStart);
  EXPECT_EQ(lane.hedge_after(0), LaneModel::kLeastHedge);
  EXPECT_EQ(lane.patience(0), LaneModel::kLeastPatience);
  EXPECT_FALSE(lane.too_quiet(milliseconds(99)));
  EXPECT_TRUE(lane.too_quiet(LaneModel::kFairChance));
  LaneModel slow;
  for (int i = 0; i < 100; ++i) slow.answered(milliseconds(100), kStart);
  EXPECT_EQ(slow.hedge_after(0), milliseconds(100));
  EXPECT_EQ(slow.patience(0), milliseconds(800));
  EXPECT_FALSE(slow.too_quiet(milliseconds(399)));
  slow.moved(1'000'000, milliseconds(10), kStart);
  EXPECT_EQ(slow.hedge_after(1'000'000), milliseconds(120)) << "with bytes on their way";
}

TEST(LaneBook, KeepsLanesApartAndForgetsALifeThatIsOver) {
  LaneBook book;
  EXPECT_EQ(book.find(kNode), nullptr);
  for (int i = 0; i < 3; ++i) book.failed(kNode, kStart, {});
  EXPECT_FALSE(book.lane(kNode).breaker().admits(kStart));
  EXPECT_TRUE(book.lane(kNode, Path::window).breaker().admits(kStart));
  EXPECT_TRUE(book.lane(NodeId{8}).breaker().admits(kStart));
  book.began(kNode, 500);
  book.forget(kNode);
  EXPECT_TRUE(book.lane(kNode).breaker().admits(kStart));
  EXPECT_EQ(book.under_way(kNode), 500U);
  book.ended(kNode, 500);
  EXPECT_EQ(book.under_way(kNode), 0U);
}

TEST(LaneBook, ExpectsByTheWindowWhileThatIsGood) {
  LaneBook book;
  book.lane(kNode).answered(microseconds(100), kStart);
  EXPECT_EQ(book.expected(kNode, 10, kStart), microseconds(100));
  book.lane(kNode, Path::window).answered(microseconds(3), kStart);
  EXPECT_EQ(book.expected(kNode, 10, kStart), microseconds(3));
  for (int i = 0; i < 3; ++i) book.failed(kNode, kStart, {}, Path::window);
  EXPECT_EQ(book.expected(kNode, 10, kStart), microseconds(100));
}

TEST(LaneBook, HoldsSoManyNodesAndNoMore) {
  LaneBook book;
  book.began(kNode, 1);
  for (std::uint32_t i = 0; i < 3 * LaneBook::kMaxNodes; ++i) {
    book.lane(NodeId{100 + i}).answered(microseconds(1), kStart);
  }
  std::size_t known = 0;
  for (std::uint32_t i = 0; i < 3 * LaneBook::kMaxNodes; ++i) {
    known += book.find(NodeId{100 + i}) != nullptr ? 1U : 0U;
  }
  EXPECT_LE(known, LaneBook::kMaxNodes);
  EXPECT_EQ(book.under_way(kNode), 1U) << "what is under way is kept";
}

TEST(LaneBook, LendsStagingWithinItsBound) {
  LaneBook book;
  EXPECT_TRUE(book.take_staging(LaneBook::kMaxStagedBytes));
  EXPECT_FALSE(book.take_staging(1));
  book.give_staging(LaneBook::kMaxStagedBytes);
  EXPECT_TRUE(book.take_staging(1));
}

// ---- budgets

TEST(ShareBudget, AllowsItsShareOfWhatWentWellAndABurst) {
  ShareBudget budget({.share = 0.1, .most = 5});
  int spent = 0;
  while (budget.spend(1, kStart)) ++spent;
  EXPECT_EQ(spent, 5) << "the burst";
  for (int i = 0; i < 1000; ++i) {
    budget.earn(1);
    if (budget.spend(1, kStart)) ++spent;
  }
  EXPECT_NEAR(spent, 105, 1);
}

TEST(ShareBudget, KeepsNoMoreThanItsMostAndTricklesWithTime) {
  ShareBudget budget({.share = 1, .most = 5, .per_second = 10});
  budget.earn(1000);
  EXPECT_EQ(budget.left(), 5);
  EXPECT_TRUE(budget.spend(5, kStart));
  EXPECT_FALSE(budget.spend(1, kStart + milliseconds(99)));
  EXPECT_TRUE(budget.spend(1, kStart + milliseconds(101)));
  EXPECT_TRUE(budget.spend(5, kStart + seconds(100)));
  EXPECT_FALSE(budget.spend(0.5, kStart + seconds(100)));
}

}  // namespace
}  // namespace membrain
