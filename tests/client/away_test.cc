// While the servers are away everything is a fast miss, and the client comes back by itself.
#include <gtest/gtest.h>

#include "protocol/servers.h"
#include "tests/client/fetch_fixture.h"

namespace membrain::client_test {
namespace {

/// How long lookups and stores take, in virtual time.
class Away : public FetchTest {
 protected:
  Duration time_of_lookup() {
    const TimePoint before = clock_.now();
    EXPECT_FALSE(lookup({1}));
    return clock_.now() - before;
  }
  Duration time_of_store() {
    StoreItem item;
    item.hash = hash_of(5);
    item.from = {{bytes_.data(), bytes_.size()}};
    const TimePoint before = clock_.now();
    EXPECT_FALSE(store({item}));
    return clock_.now() - before;
  }
  void expect_fast_misses() {
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(time_of_lookup(), Duration::zero());
      EXPECT_EQ(time_of_store(), Duration::zero());
      run_for(milliseconds(37));
    }
  }
  std::vector<std::byte> bytes_ = content(1000, 5);
};

TEST_F(Away, ADeadServerIsAFastMissWithinTheTimeThatItsLossIsNoticed) {
  begin();
  publish(1, 1000, {&node1_});
  ASSERT_TRUE(lookup({1}));
  network_.kill("server");
  EXPECT_LE(time_of_lookup(), network_.faults().max_notice);
  run_for(milliseconds(1));
  expect_fast_misses();
}

TEST_F(Away, ASilentServerIsAFastMissAfterTheTimeOfASessionAtTheLatest) {
  begin();
  publish(1, 1000, {&node1_});
  ASSERT_TRUE(lookup({1}));
  network_.partition("client", "server", true);
  const TimePoint before = clock_.now();
  time_of_lookup();
  EXPECT_LE(clock_.now() - before, milliseconds(shard_.ttl_ms) + milliseconds(100));
  run_for(milliseconds(1));
  expect_fast_misses();
  network_.heal_partitions();
  const TimePoint healed = clock_.now();
  step_until([&] { return core_->connected(); });
  EXPECT_LE(clock_.now() - healed, Circuit::kLongestDelay + config_.connect_timeout);
  run_for(milliseconds(1));
  EXPECT_TRUE(lookup({1}));
}

TEST_F(Away, WhatIsPinnedIsFetchedMeanwhile) {
  begin();
  const std::vector<std::byte> expected = publish(1, 1000, {&node1_});
  const Match match = lookup({1}).value();
  network_.kill("server");
  time_of_lookup();
  std::vector<std::byte> into(1000);
  const TimePoint before = clock_.now();
  EXPECT_EQ(fetch(match, {whole(0, into)})->ok_count(), 1U);
  EXPECT_LE(clock_.now() - before, milliseconds(2));
  EXPECT_EQ(into, expected);
}

/// The leader stops; another server says so, and leads after a while.
class Stopped : public Away {
 protected:
  Stopped() {
    config_.server = "server:9201,standby:9201";
    standby_.shards = shard_.shards = {1, {{ShardId{0}, 0, "server:9201"}}};
    begin();
    publish(1, 1000, {&node1_});
    standby_.catalog = shard_.catalog;
    standby_.epoch = Epoch{shard_.epoch.value + 1};
    run_for(milliseconds(100));
    network_.pause("server");
    LookupOptions options;
    options.timeout = milliseconds(100);
    EXPECT_FALSE(lookup({1}, options));
    step_until([&] { return !core_->connected(); });
  }
  Duration until_it_is_back() {
    standby_.shards = {1, {{ShardId{0}, 0, "standby:9201"}}};
    const TimePoint before = clock_.now();
    step_until([&] { return core_->connected(); });
    EXPECT_TRUE(lookup({1}));
    return clock_.now() - before;
  }
  FakeShard standby_{network_, clock_, "standby"};
};

TEST_F(Stopped, TheOthersAreAskedFirst) {
  EXPECT_LT(until_it_is_back(), milliseconds(150));
}

TEST_F(Stopped, AsLongAsTheOthersNameItItIsWaitedForBriefly) {
  for (int i = 1; i <= 20; ++i) {
    run_for(milliseconds(100 + i));
    EXPECT_FALSE(core_->connected());
  }
  EXPECT_LT(until_it_is_back(), Servers::kShortPatience + milliseconds(150));
}

TEST_F(Stopped, ItIsFoundAgainWhenItGoesOn) {
  run_for(milliseconds(700));
  network_.resume("server");
  const TimePoint before = clock_.now();
  step_until([&] { return core_->connected(); });
  EXPECT_LT(clock_.now() - before, Servers::kShortPatience + milliseconds(150));
}

}  // namespace
}  // namespace membrain::client_test
