#include "tools/torture_watch.h"

#include <gtest/gtest.h>

#include <chrono>

namespace membrain {
namespace {

using std::chrono::seconds;

LeaderStatus status(std::uint64_t epoch, std::uint64_t nodes, std::uint64_t expired = 0) {
  LeaderStatus status;
  status.epoch = epoch;
  status.counters = {{"nodes", nodes}, {"nodes_lost", 0}, {"sessions_expired", expired}};
  return status;
}

TimePoint at(int second) {
  return TimePoint(seconds(1000 + second));
}

HistoryTime time_at(int second) {
  return at(second).time_since_epoch().count();
}

TEST(TortureWatch, SeesNothingWhereNothingHappens) {
  TortureWatch watch(2);
  EXPECT_TRUE(watch.see(at(0), status(1, 2)).empty());
  EXPECT_TRUE(watch.see(at(1), status(1, 2)).empty());
}

TEST(TortureWatch, AnotherTermHidesBlocksFromBeforeItWasSeen) {
  TortureWatch watch(2);
  static_cast<void>(watch.see(at(0), status(1, 2)));
  const auto found = watch.see(at(1), status(2, 2));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_FALSE(found[0].ends_pins);
  EXPECT_LT(found[0].begin, time_at(0));
  EXPECT_GT(found[0].end, time_at(1));
}

TEST(TortureWatch, WhileNobodyLeadsBlocksAreHidden) {
  TortureWatch watch(2);
  static_cast<void>(watch.see(at(0), status(1, 2)));
  ASSERT_EQ(watch.see(at(1), std::nullopt).size(), 1u);
  const auto later = watch.see(at(9), std::nullopt);
  ASSERT_EQ(later.size(), 1u);
  EXPECT_LT(later[0].begin, time_at(0)) << "since it was last seen";
}

TEST(TortureWatch, ANodeThatIsLostEndsPins) {
  TortureWatch watch(2);
  static_cast<void>(watch.see(at(0), status(1, 2)));
  const auto away = watch.see(at(1), status(1, 1));
  ASSERT_EQ(away.size(), 1u);
  EXPECT_TRUE(away[0].ends_pins);
  LeaderStatus back = status(1, 2);
  back.counters["nodes_lost"] = 1;
  EXPECT_EQ(watch.see(at(2), back).size(), 1u) << "it was lost and came back between two looks";
  EXPECT_TRUE(watch.see(at(3), back).empty());
}

TEST(TortureWatch, ASessionThatEndsByItselfEndsPinsOneThatWeEndedDoesNot) {
  TortureWatch watch(2);
  static_cast<void>(watch.see(at(0), status(1, 2)));
  watch.expect_end_of_session(at(0));
  EXPECT_TRUE(watch.see(at(1), status(1, 2, 1)).empty());
  const auto found = watch.see(at(2), status(1, 2, 2));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].ends_pins);
  watch.expect_end_of_session(at(3));
  EXPECT_EQ(watch.see(at(60), status(1, 2, 3)).size(), 1u) << "ours would have ended long ago";
}

}  // namespace
}  // namespace membrain
