// What etcd promises, of the state that plays it.
#include "server/cluster/kv_state.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "server/cluster/etcd/lease_time.h"

namespace membrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

CoordinationChange put(const std::string& key, const std::string& value, LeaseId lease = {}) {
  CoordinationChange change;
  change.puts.push_back({key, value, lease});
  return change;
}

class KvStateTest : public testing::Test {
 protected:
  Committed commit(const CoordinationChange& change) { return state_.commit(change).value(); }

  KvState state_;
  TimePoint now_{std::chrono::hours(1)};
};

TEST_F(KvStateTest, AKeyThatWasRemovedAndPutAgainWasCreatedLater) {
  EXPECT_EQ(commit(put("a", "1")).revision, 1U);
  EXPECT_EQ(commit(put("a", "2")).revision, 2U);
  EXPECT_EQ(state_.read("a").find("a")->created, 1U);
  EXPECT_EQ(state_.read("a").find("a")->modified, 2U);
  CoordinationChange removal;
  removal.removals.push_back("a");
  EXPECT_TRUE(commit(removal).done);
  EXPECT_TRUE(state_.read("").entries.empty());
  commit(put("a", "3"));
  EXPECT_EQ(state_.read("a").find("a")->created, 4U);
}

TEST_F(KvStateTest, ReadsWhatBeginsWithAPrefix) {
  for (const char* const key : {"b/1", "b/2", "b", "c"}) commit(put(key, key));
  EXPECT_EQ(state_.read("b/").entries.size(), 2U);
  EXPECT_EQ(state_.read("").entries.size(), 4U);
  EXPECT_TRUE(state_.read("d").entries.empty());
}

TEST_F(KvStateTest, AChangeHappensWholeOrNotAtAll) {
  commit(put("a", "1"));
  CoordinationChange change = put("b", "2");
  change.if_created.push_back({"a", 0});
  EXPECT_FALSE(commit(change).done);
  EXPECT_EQ(state_.read("").entries.size(), 1U);
  EXPECT_EQ(state_.revision(), 1U);
  change.if_created = {{"a", 1}, {"c", 0}};
  change.if_modified = {{"a", 1}};
  EXPECT_TRUE(commit(change).done);
  change.if_modified = {{"a", 2}};
  EXPECT_FALSE(commit(change).done);
}

TEST_F(KvStateTest, ALeaseTakesItsKeysWithIt) {
  const LeaseId lease = state_.grant(seconds(2), now_);
  commit(put("a", "1", lease));
  commit(put("b", "1"));
  EXPECT_EQ(state_.keep_alive(lease, now_ + seconds(1)), seconds(2));
  EXPECT_EQ(state_.time_left(lease, now_ + milliseconds(1001), seconds(1))->left, seconds(1));
  EXPECT_EQ(state_.time_left(lease, now_, milliseconds(700))->left, milliseconds(2800));
  EXPECT_EQ(state_.time_left(lease, now_, seconds(1))->of, seconds(2));
  state_.expire(now_ + seconds(2));
  EXPECT_EQ(state_.read("").entries.size(), 2U);
  EXPECT_EQ(state_.time_left(lease, now_ + seconds(4), seconds(1))->left, Duration::zero());
  state_.expire(now_ + seconds(3));
  EXPECT_EQ(state_.read("").entries.size(), 1U);
  EXPECT_FALSE(state_.keep_alive(lease, now_ + seconds(3)));
  EXPECT_FALSE(state_.time_left(lease, now_, seconds(1)));
  EXPECT_FALSE(commit(put("c", "1", lease)).done);
  EXPECT_EQ(state_.next_expiry(), std::nullopt);
}

TEST_F(KvStateTest, WatchesFireOnceForWhatComesAfterARevision) {
  int fired = 0;
  const auto fire = [&fired] { ++fired; };
  commit(put("a/1", "1"));
  state_.watch("a/", 1, fire);
  commit(put("b", "1"));
  EXPECT_EQ(fired, 0);
  commit(put("a/2", "1"));
  commit(put("a/3", "1"));
  EXPECT_EQ(fired, 1);
  state_.watch("a/", 1, fire);
  EXPECT_EQ(fired, 2) << "it has changed already";
  const auto unwanted = state_.watch("a/", state_.revision(), fire);
  state_.unwatch(unwanted);
  commit(put("a/4", "1"));
  EXPECT_EQ(fired, 2);
}

TEST_F(KvStateTest, AWatchFromLongAgoFiresAtOnce) {
  for (std::size_t i = 0; i < KvState::kRemembered + 10; ++i) commit(put("a", std::to_string(i)));
  int fired = 0;
  state_.watch("b", 1, [&fired] { ++fired; });
  EXPECT_EQ(fired, 1);
}

TEST_F(KvStateTest, WhatCannotBeKeptHasNotHappened) {
  const auto full = [](const CoordinationView&) -> Result<> {
    return fail(Errc::out_of_capacity, "full");
  };
  int fired = 0;
  state_.watch("", 0, [&fired] { ++fired; });
  EXPECT_EQ(state_.commit(put("a", "1"), full).error().code, Errc::out_of_capacity);
  EXPECT_EQ(state_.revision(), 0U);
  EXPECT_TRUE(state_.read("").entries.empty());
  EXPECT_EQ(fired, 0);
}

TEST_F(KvStateTest, OnlyWhatHasNoLeaseIsKept) {
  const LeaseId lease = state_.grant(seconds(2), now_);
  commit(put("mortal", "1", lease));
  CoordinationView kept;
  const auto keep = [&kept](const CoordinationView& view) -> Result<> {
    kept = view;
    return {};
  };
  ASSERT_TRUE(state_.commit(put("lasting", "1"), keep));
  ASSERT_EQ(kept.entries.size(), 1U);
  KvState next;
  next.restore(kept);
  EXPECT_EQ(next.revision(), 2U) << "revisions go on";
  EXPECT_EQ(next.commit(put("a", "1"))->revision, 3U);
  EXPECT_NE(next.read("").find("lasting"), nullptr);
}

TEST(EtcdLease, LastsNoLongerThanAnybodyAsksForWhateverEtcdSays) {
  EXPECT_EQ(lease_time(3), seconds(3));
  EXPECT_EQ(lease_time(0), Duration::zero());
  EXPECT_EQ(lease_time(INT64_MIN), Duration::zero());
  EXPECT_EQ(lease_time(INT64_MAX), kLongestLease);  // in nanoseconds it would have been negative
  EXPECT_EQ(lease_time(10'000'000'000), kLongestLease);
}

}  // namespace
}  // namespace membrain
