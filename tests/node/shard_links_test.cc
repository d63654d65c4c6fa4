// A node in a cluster of several shards, each led by a server of its own.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "protocol/servers.h"
#include "tests/node/node_world.h"

namespace membrain::node_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kHalf = std::uint64_t{1} << 63;
constexpr std::uint64_t kQuarter = kHalf / 2;

/// A key of the upper half.
constexpr std::uint64_t upper(std::uint64_t key) {
  return kHalf | key;
}

/// Shard 0 at "shard", shard 1 with the upper half at "second"; "third" stands by.
class ShardLinksTest : public NodeWorld {
 protected:
  ShardLinksTest() {
    set_log_level(LogLevel::error);
    tell_all({1, {{ShardId{0}, 0, "shard"}, {ShardId{1}, kHalf, "second"}}});
    third.leads = false;
  }
  [[nodiscard]] NodeConfig config() const override {
    NodeConfig config = NodeWorld::config();
    config.server = servers;
    return config;
  }
  void tell_all(const wire::ShardList& list) {
    for (FakeShard* server : {&shard, &second, &third}) {
      server->list = list;
      server->map_version = list.version;
    }
  }
  /// "third" takes shard 1 over; who knows of it is the test's affair.
  void move_shard_1() {
    second.leads = false;
    third.leads = true;
    third.epoch = Epoch{9};
    network.reset_connections("node", "second");
  }
  ItemStatus store_in(const FakeShard& of, std::uint64_t key, std::size_t size = 16384) {
    const OpId op = client.store({{key, content_of(key, size)}}, of.epoch);
    EXPECT_TRUE(run_until([&] { return client.stored.contains(op.value); }));
    return client.stored[op.value][0];
  }
  [[nodiscard]] NodeStatus status() const { return node->service().status(); }
  bool connected(std::uint64_t shards) {
    return run_until([&] { return status().connected_shards == shards; }) && status().connected;
  }

  std::string servers = "shard,second,third";
  FakeShard second{network, clock, "second", ShardId{1}, Epoch{5}};
  FakeShard third{network, clock, "third", ShardId{1}, Epoch{9}};
};

TEST_F(ShardLinksTest, TellsEachShardOfItsOwnBlocks) {
  start();
  EXPECT_EQ(status().shards, 2u);
  EXPECT_EQ(status().epoch, Epoch{5});
  EXPECT_EQ(store_in(shard, 1), ItemStatus::ok);
  EXPECT_EQ(store_in(shard, upper(1)), ItemStatus::ok) << "any shard's session may store any block";
  EXPECT_EQ(store_in(second, 2), ItemStatus::ok);
  EXPECT_EQ(store_in(second, upper(2)), ItemStatus::ok);
  EXPECT_EQ(shard.held.size(), 2u);
  EXPECT_TRUE(shard.held.contains(1) && shard.held.contains(2));
  EXPECT_EQ(second.held.size(), 2u);
  EXPECT_TRUE(second.held.contains(upper(1)) && second.held.contains(upper(2)));
  const OpId both = client.fetch({shard.held.at(1), second.held.at(upper(2))}, second.epoch);
  ASSERT_TRUE(run_until([&] { return client.fetched[both.value].size() == 2; }));
  EXPECT_EQ(client.fetched[both.value][1], ItemStatus::ok);
  EXPECT_EQ(client.fetched[both.value][2], ItemStatus::ok);
}

TEST_F(ShardLinksTest, StoresBlocksOfSeveralShardsTogether) {
  start();
  second.verdicts[upper(2)] = ItemStatus::old_era;
  const OpId op = client.store(
      {{1, content_of(1, 100)}, {upper(2), content_of(2, 100)}, {upper(3), content_of(3, 100)}});
  ASSERT_TRUE(run_until([&] { return client.stored.contains(op.value); }));
  EXPECT_EQ(client.stored[op.value],
            (std::vector{ItemStatus::ok, ItemStatus::old_era, ItemStatus::ok}));
}

TEST_F(ShardLinksTest, ReportsToEachShardWhatItHasOfItAfterAReconnect) {
  start();
  for (std::uint64_t key = 1; key <= 10; ++key) {
    ASSERT_EQ(store_in(shard, key), ItemStatus::ok);
    ASSERT_EQ(store_in(shard, upper(key)), ItemStatus::ok);
  }
  shard.held.clear();
  second.held.clear();
  network.reset_connections("node", "second");
  ASSERT_TRUE(run_until([&] { return second.reports == 2; }));
  EXPECT_EQ(second.held.size(), 10u);
  EXPECT_TRUE(shard.held.empty());
  EXPECT_EQ(shard.reports, 1) << "the other link knows nothing of it";
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2; }));
  EXPECT_EQ(shard.held.size(), 10u);
}

TEST_F(ShardLinksTest, ServesTheOtherShardsWhileOneIsAway) {
  start();
  network.partition("node", "second", true);
  EXPECT_EQ(store_in(shard, 1), ItemStatus::ok);
  const TimePoint before = clock.now();
  EXPECT_EQ(store_in(shard, upper(1)), ItemStatus::unavailable);
  EXPECT_GE(clock.now() - before, milliseconds(999)) << "the shard may come back in time";
  run_for(seconds(10));
  EXPECT_EQ(status().connected_shards, 1u);
  EXPECT_FALSE(status().connected);
  network.partition("node", "second", false);
  EXPECT_TRUE(connected(2));
  EXPECT_TRUE(second.held.contains(upper(1))) << "it was kept for the next report";
}

TEST_F(ShardLinksTest, FollowsAShardToItsNewLeader) {
  start();
  ASSERT_EQ(store_in(shard, upper(1)), ItemStatus::ok);
  tell_all({1, {{ShardId{0}, 0, "shard"}, {ShardId{1}, kHalf, "third"}}});
  move_shard_1();
  EXPECT_TRUE(run_until([&] { return third.reports == 1; }));
  EXPECT_TRUE(third.held.contains(upper(1)));
  EXPECT_EQ(store_in(third, upper(2)), ItemStatus::ok);
  EXPECT_TRUE(third.held.contains(upper(2)));
  EXPECT_EQ(shard.registrations, 1);
}

TEST_F(ShardLinksTest, AsksAnotherServerWhenOneNamesALeaderThatDoesNotLead) {
  start();
  move_shard_1();
  third.list.shards[1].leader = "third";  // the others go on naming "second"
  EXPECT_TRUE(run_until([&] { return third.reports == 1; }));
  EXPECT_TRUE(connected(2));
}

TEST_F(ShardLinksTest, AsksTheOthersFirstWhenALeaderHasFallenSilent) {
  servers = "second,third";
  start();
  network.pause("second");
  ASSERT_TRUE(run_until([&] { return status().connected_shards == 1; }));
  run_for(Servers::kPatience);  // the silent one is all that is named
  EXPECT_FALSE(status().connected);
  third.list.shards[1].leader = "third";
  third.leads = true;
  const TimePoint before = clock.now();
  EXPECT_TRUE(run_until([&] { return third.reports == 1; }));
  EXPECT_LT(clock.now() - before, Servers::kShortPatience + milliseconds(150));
}

TEST_F(ShardLinksTest, AsksTheOtherServersWhenOneIsGone) {
  network.partition("node", "shard", true);
  start_node();
  ASSERT_TRUE(run_until([&] { return second.reports == 1; }));
  EXPECT_EQ(status().shards, 2u);
  network.partition("node", "shard", false);
  EXPECT_TRUE(connected(2));
}

TEST_F(ShardLinksTest, GoesToTheLeaderItKnewWhenNoServerAnswers) {
  servers = "third";
  start();
  ASSERT_TRUE(connected(2));
  network.partition("node", "third", true);
  network.reset_connections("node", "second");
  EXPECT_TRUE(run_until([&] { return second.reports == 2; }));
  network.partition("node", "third", false);
}

TEST_F(ShardLinksTest, WaitsForALeaderThatNobodyKnows) {
  tell_all({1, {{ShardId{0}, 0, "shard"}, {ShardId{1}, kHalf, ""}}});
  start_node();
  ASSERT_TRUE(run_until([&] { return shard.reports == 1; }));
  run_for(seconds(5));
  EXPECT_EQ(second.registrations, 0);
  EXPECT_EQ(status().connected_shards, 1u);
  const int questions = shard.questions + second.questions + third.questions;
  EXPECT_LT(questions, 60) << "with pauses";
  third.list.shards[1].leader = "second";
  EXPECT_TRUE(connected(2));
}

TEST_F(ShardLinksTest, FindsALeaderThatListensEverywhereWhereItWasAsked) {
  FakeShard everywhere(network, clock, "host:1", ShardId{0});
  everywhere.list = {1, {{ShardId{0}, 0, "0.0.0.0:1"}}};
  servers = "host:1";
  start_node();
  EXPECT_TRUE(connected(1));
  EXPECT_EQ(everywhere.registrations, 1);
  stop_node();
}

TEST_F(ShardLinksTest, AsksOnceForAllLinks) {
  start();
  ASSERT_TRUE(connected(2));
  const int before = shard.questions + second.questions + third.questions;
  EXPECT_EQ(before, 1);
  network.reset_connections("node", "shard");
  network.reset_connections("node", "second");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2 && second.reports == 2; }));
  EXPECT_LE(shard.questions + second.questions + third.questions, before + 2);
}

TEST_F(ShardLinksTest, SplitsWithItsShard) {
  tell_all({1, {{ShardId{0}, 0, "shard"}}});
  second.leads = false;
  start();
  ASSERT_EQ(store_in(shard, 1), ItemStatus::ok);
  ASSERT_EQ(store_in(shard, upper(1)), ItemStatus::ok);
  ASSERT_EQ(shard.held.size(), 2u);
  tell_all({2, {{ShardId{0}, 0, "shard"}, {ShardId{1}, kHalf, "second"}}});
  shard.epoch = Epoch{4};
  second.leads = true;
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2 && second.reports == 1; }));
  EXPECT_TRUE(connected(2));
  EXPECT_EQ(shard.held.size(), 1u);
  EXPECT_TRUE(shard.held.contains(1));
  EXPECT_EQ(second.held.size(), 1u);
  EXPECT_TRUE(second.held.contains(upper(1)));
  EXPECT_EQ(store_in(second, upper(1)), ItemStatus::duplicate);
  EXPECT_EQ(store_in(second, upper(2)), ItemStatus::ok);
  EXPECT_TRUE(second.held.contains(upper(2)));
  const OpId old = client.fetch({second.held.at(upper(1))}, Epoch{3});
  ASSERT_TRUE(run_until([&] { return client.fetched.contains(old.value); }));
  EXPECT_EQ(client.fetched[old.value][1], ItemStatus::ok) << "a session of the term before it";
}

TEST_F(ShardLinksTest, LooksForTheMapThatItsLeaderGoesByBeforeItReports) {
  tell_all({1, {{ShardId{0}, 0, "shard"}}});
  second.leads = false;
  start();
  ASSERT_EQ(store_in(shard, 1), ItemStatus::ok);
  ASSERT_EQ(store_in(shard, upper(1)), ItemStatus::ok);
  shard.epoch = Epoch{4};
  shard.map_version = 2;  // but the servers still tell the first one
  second.leads = true;
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.registrations == 2; }));
  run_for(seconds(1));
  EXPECT_EQ(shard.reports, 1);
  third.list = {2, {{ShardId{0}, 0, "shard"}, {ShardId{1}, kHalf, "second"}}};
  EXPECT_TRUE(connected(2));
  EXPECT_EQ(shard.registrations, 2) << "it waited on its connection";
  EXPECT_EQ(shard.held.size(), 1u);
  EXPECT_EQ(second.held.size(), 1u);
}

TEST_F(ShardLinksTest, RegistersAnewWithAShardWhoseRangeHasChanged) {
  start();
  ASSERT_TRUE(connected(2));
  tell_all(
      {2,
       {{ShardId{0}, 0, "shard"}, {ShardId{2}, kQuarter, "third"}, {ShardId{1}, kHalf, "second"}}});
  third.shard = ShardId{2};
  third.leads = true;
  shard.epoch = Epoch{10};
  network.reset_connections("node", "second");  // that link alone asks
  EXPECT_TRUE(connected(3));
  EXPECT_EQ(shard.registrations, 2);
  EXPECT_EQ(store_in(shard, kQuarter + 1), ItemStatus::ok);
  EXPECT_TRUE(third.held.contains(kQuarter + 1));
}

TEST_F(ShardLinksTest, EndsTheLinkToAShardThatIsNoMore) {
  start();
  ASSERT_EQ(store_in(shard, upper(1)), ItemStatus::ok);
  tell_all({2, {{ShardId{0}, 0, "shard"}}});
  shard.epoch = Epoch{6};
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2; }));
  EXPECT_TRUE(connected(1));
  EXPECT_EQ(status().shards, 1u);
  EXPECT_TRUE(shard.held.contains(upper(1))) << "its keys are the other's";
  const int beats = second.heartbeats;
  run_for(seconds(10));
  EXPECT_EQ(second.heartbeats, beats);
  EXPECT_EQ(second.registrations, 1);
}

TEST_F(ShardLinksTest, NeverGoesBackToAnEarlierMap) {
  tell_all({7, {{ShardId{0}, 0, "shard"}, {ShardId{1}, kHalf, "second"}}});
  start();
  for (FakeShard* server : {&shard, &second, &third}) {
    server->list = {6, {{ShardId{0}, 0, "shard"}}};
  }
  network.reset_connections("node", "shard");
  network.reset_connections("node", "second");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2 && second.reports == 2; }));
  EXPECT_EQ(status().shards, 2u);
}

TEST_F(ShardLinksTest, TakesNoListThatIsNone) {
  const wire::ShardList good = shard.list;
  wire::ShardList crowd = good;
  for (std::uint32_t i = 2; i <= wire::kMaxShards; ++i) {
    crowd.shards.push_back({ShardId{i}, kHalf + i, "crowd"});
  }
  for (const wire::ShardList& bad :
       {wire::ShardList{9, {}}, wire::ShardList{9, {{ShardId{0}, 1, "shard"}}},
        wire::ShardList{9, {{ShardId{0}, 0, ""}, {ShardId{0}, 1, ""}}}, crowd}) {
    tell_all(bad);
    third.map_version = shard.map_version = second.map_version = 1;
    start_node();
    run_for(seconds(2));
    EXPECT_EQ(status().shards, 0u);
    third.list = good;
    EXPECT_TRUE(connected(2)) << "one server knows better";
    stop_node();
  }
}

TEST_F(ShardLinksTest, TakesNoOtherRangesUnderTheVersionThatItKnows) {
  start();
  tell_all({1, {{ShardId{0}, 0, "shard"}, {ShardId{1}, kQuarter, "second"}}});
  network.reset_connections("node", "shard");
  run_for(seconds(2));
  EXPECT_EQ(store_in(shard, kQuarter + 1), ItemStatus::ok);
  EXPECT_TRUE(shard.held.contains(kQuarter + 1));
}

TEST_F(ShardLinksTest, ObeysAShardOnlyWhereItsKeysAre) {
  start();
  ASSERT_EQ(store_in(shard, 1), ItemStatus::ok);
  ASSERT_EQ(store_in(shard, upper(1)), ItemStatus::ok);
  const wire::SlotRef others = second.at(upper(1));
  shard.send_free({others, shard.at(1)}, shard.epoch);
  ASSERT_TRUE(run_until([&] { return !shard.freed.empty(); }));
  run_for(milliseconds(100));
  EXPECT_EQ(shard.freed, std::vector{shard.at(1)}) << "what is not freed is not confirmed";
  EXPECT_EQ(status().fenced_frees, 1u);
  EXPECT_EQ(status().used_slots, 1u);
  shard.send_free({others}, second.epoch);
  second.send_free({others}, shard.epoch);
  run_for(milliseconds(100));
  EXPECT_EQ(status().fenced_frees, 3u) << "an epoch counts on its own shard's link alone";
  EXPECT_EQ(status().used_slots, 1u);
  second.send_free({others}, second.epoch);
  EXPECT_TRUE(run_until([&] { return status().used_slots == 0; }));
}

TEST_F(ShardLinksTest, ComparesEpochsWithinAShardAlone) {
  second.epoch = Epoch{2};  // lower than shard 0's
  start();
  EXPECT_TRUE(connected(2));
  second.epoch = Epoch{1};
  network.reset_connections("node", "second");
  run_for(seconds(3));
  EXPECT_EQ(status().connected_shards, 1u);
  second.epoch = Epoch{2};
  EXPECT_TRUE(connected(2));
}

TEST_F(ShardLinksTest, TellsACorruptSlotToTheShardThatHasItsKey) {
  start();
  ASSERT_EQ(store_in(shard, 1), ItemStatus::ok);
  ASSERT_EQ(store_in(shard, upper(1)), ItemStatus::ok);
  const wire::SlotRef at = second.at(upper(1));
  arena->memory(at.slot, 9)[8] ^= std::byte{1};
  client.send(wire::Suspect{at.slot, at.generation});
  ASSERT_TRUE(run_until([&] { return !second.corrupt.empty(); }));
  EXPECT_EQ(second.corrupt, std::vector{at});
  EXPECT_TRUE(shard.corrupt.empty());
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2; }));
  run_for(milliseconds(100));
  EXPECT_EQ(status().used_slots, 2u) << "it is the other shard's to forget";
  network.reset_connections("node", "second");
  EXPECT_TRUE(run_until([&] { return status().used_slots == 1; }));
}

TEST_F(ShardLinksTest, AsksEveryShardForItsShareOfTheVictims) {
  start();
  for (std::uint64_t key = 1; key <= 300; ++key) {
    EXPECT_EQ(store_in(shard, key % 2 == 0 ? key : upper(key)), ItemStatus::ok) << key;
    run_for(milliseconds(1));
  }
  EXPECT_GT(shard.freed.size(), 50u);
  EXPECT_GT(second.freed.size(), 50u);
  EXPECT_TRUE(
      run_until([&] { return status().used_slots == shard.held.size() + second.held.size(); }));
}

TEST_F(ShardLinksTest, GetsItsSpaceFromTheShardsThatHaveSomethingToGive) {
  start();
  for (std::uint64_t key = 1; key <= 300; ++key) {
    EXPECT_EQ(store_in(shard, key), ItemStatus::ok) << key;
    run_for(milliseconds(3));
  }
  EXPECT_TRUE(second.freed.empty());
  EXPECT_FALSE(second.asked.empty()) << "nobody here knows that it has nothing";
}

TEST_F(ShardLinksTest, GetsSpaceThoughAShardThatWasAskedGoesAway) {
  start();
  second.deaf_needs = 1000;
  std::uint64_t key = 0;
  while (second.asked.empty() && key < 100) store_in(shard, ++key);
  ASSERT_FALSE(second.asked.empty());
  network.partition("node", "second", true);
  ASSERT_TRUE(run_until([&] { return status().connected_shards == 1; }, 2'000'000));
  for (std::uint64_t more = 1; more <= 100; ++more) {
    EXPECT_EQ(store_in(shard, 1000 + more), ItemStatus::ok) << more;
    run_for(milliseconds(3));
  }
}

TEST_F(ShardLinksTest, EmptiesASlabWhoseBlocksAreOfSeveralShards) {
  start();
  for (std::uint64_t key = 1; key <= 60; ++key) {
    store_in(shard, key % 2 == 0 ? key : upper(key));
  }
  ItemStatus status = ItemStatus::full;
  for (std::uint64_t key = 1000; status != ItemStatus::ok && key < 1020; ++key) {
    status = store_in(shard, key, 100'000);
    run_for(milliseconds(60));
  }
  EXPECT_EQ(status, ItemStatus::ok);
  EXPECT_TRUE(sound());
}

TEST_F(ShardLinksTest, StopsWhileItLooksForALeader) {
  tell_all({1, {{ShardId{0}, 0, "shard"}, {ShardId{1}, kHalf, ""}}});
  start_node();
  run_for(milliseconds(200));
  stop_node();
  network.partition("node", "shard", true);
  network.partition("node", "second", true);
  network.partition("node", "third", true);
  start_node();
  run_for(milliseconds(20));
  stop_node();
}

/// The same over a network that loses, repeats and reorders, while leaders come and go and a shard
/// is split.
class LossyShardsTest : public ShardLinksTest {
 protected:
  static SimFaults faults() {
    SimFaults faults;
    faults.loss = 0.05;
    faults.duplicate = 0.05;
    faults.reorder = 0.1;
    faults.reset = 0.002;
    return faults;
  }
  void store_and_fetch(std::uint64_t key) {
    if (!client.peer || client.lost) {
      client.peer = {};
      client.lost = false;
      client.connect("node-data");
      run_until([&] { return static_cast<bool>(client.peer); }, 20'000);
    }
    client.store({{key, content_of(key, 20'000)}, {upper(key), content_of(upper(key), 3000)}});
    for (const FakeShard* of : {&shard, &second, &third}) {
      if (of->leads && !of->held.empty()) client.fetch({of->held.rbegin()->second}, of->epoch);
    }
  }
  void check_bytes() {
    for (const auto& [tag, bytes] : client.bytes) {
      // Both halves' keys have the same tag, and the content of the other byte for byte.
      ASSERT_EQ(bytes, content_of(tag, bytes.size())) << tag;
    }
  }
  /// Every block is known to the shard of its key alone.
  void check_held(const FakeShard& of, const KeyRange& range) {
    for (const auto& [key, entry] : of.held) EXPECT_TRUE(range.has(entry.meta.key)) << key;
  }
};

TEST_F(LossyShardsTest, KeepsItsPromisesWhileLeadersComeAndGo) {
  network.set_faults(faults());
  client.repeats = true;
  start_node();
  ASSERT_TRUE(connected(2));
  for (std::uint64_t round = 1; round <= 400; ++round) {
    store_and_fetch(round);
    if (round == 100) {
      tell_all({1, {{ShardId{0}, 0, "shard"}, {ShardId{1}, kHalf, "third"}}});
      move_shard_1();
      second.held.clear();
    }
    if (round == 200) {
      tell_all({2,
                {{ShardId{0}, 0, "shard"},
                 {ShardId{2}, kHalf, "second"},
                 {ShardId{1}, kHalf + kQuarter, "third"}}});
      second.shard = ShardId{2};
      second.leads = true;
      second.epoch = Epoch{11};
      third.epoch = Epoch{12};
      third.held.clear();
      network.reset_connections("node", "third");
    }
    run_for(milliseconds(round % 20));
    ASSERT_TRUE(sound()) << round;
    check_bytes();
  }
  network.set_faults({});
  EXPECT_FALSE(client.bytes.empty());
  EXPECT_TRUE(connected(3));
  check_held(shard, {0, kHalf - 1});
  check_held(second, {kHalf, kHalf + kQuarter - 1});
  check_held(third, {kHalf + kQuarter, UINT64_MAX});
  EXPECT_FALSE(shard.held.empty());
  EXPECT_FALSE(second.held.empty()) << "what was the other's is its own now";
}

}  // namespace
}  // namespace membrain::node_test
