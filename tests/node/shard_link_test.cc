#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <vector>

#include "tests/node/node_world.h"

namespace membrain::node_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ShardLinkTest : public NodeWorld {};

TEST_F(ShardLinkTest, KeepsOnTryingUntilThereIsAShard) {
  network.partition("node", "shard", true);
  start_node();
  run_for(seconds(30));
  EXPECT_FALSE(node->service().status().connected);
  network.partition("node", "shard", false);
  EXPECT_TRUE(run_until([&] { return node->service().status().connected; }));
}

TEST_F(ShardLinkTest, StopsBeforeItHasStarted) {
  node = std::make_unique<NodeProcess>(network, clock, *arena, config());
  stop_node();
  start_node();
  stop_node();
}

TEST_F(ShardLinkTest, BeatsThreeTimesWithinTheTimeToLive) {
  start();
  const int before = shard.heartbeats;
  run_for(milliseconds(shard.ttl_ms) * 2);
  EXPECT_GE(shard.heartbeats - before, 5);
  EXPECT_LE(shard.heartbeats - before, 8);
  EXPECT_EQ(shard.registrations, 1);
}

TEST_F(ShardLinkTest, TellsOfItsRoomWithoutWaitingForTheNextBeat) {
  start();
  run_for(milliseconds(100));
  EXPECT_EQ(shard.heartbeats, 1);
}

TEST_F(ShardLinkTest, RegistersAnewWhenTheShardFallsSilent) {
  start();
  shard.silent = true;
  EXPECT_TRUE(run_until([&] { return shard.registrations == 2; }, 2'000'000));
}

TEST_F(ShardLinkTest, ReportsAllSealedBlocksAfterAReconnect) {
  start();
  for (std::uint64_t key = 1; key <= 20; ++key) ASSERT_EQ(store(key), ItemStatus::ok);
  shard.held.clear();
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2; }));
  EXPECT_EQ(shard.held.size(), 20u);
  EXPECT_EQ(fetch(shard.held.at(7)), ItemStatus::ok);
}

TEST_F(ShardLinkTest, RetriesAPublishUntilItIsAnswered) {
  start();
  shard.deaf_publishes = 3;
  const OpId op = client.store({{1, content_of(1, 16384)}}, shard.epoch, 20'000);
  ASSERT_TRUE(run_until([&] { return client.stored.contains(op.value); }));
  EXPECT_EQ(client.stored[op.value][0], ItemStatus::ok);
  EXPECT_EQ(shard.publishes, 4);
  EXPECT_EQ(shard.registrations, 1);
}

TEST_F(ShardLinkTest, KeepsBlocksThatCouldNotBePublishedAndReportsThemLater) {
  start();
  network.partition("node", "shard", true);
  const TimePoint before = clock.now();
  EXPECT_EQ(store(1), ItemStatus::unavailable);
  EXPECT_GE(clock.now() - before, milliseconds(999));
  EXPECT_EQ(store(1), ItemStatus::unavailable);
  EXPECT_EQ(node->service().status().used_slots, 1u) << "a repeated store joins the first";
  network.partition("node", "shard", false);
  ASSERT_TRUE(run_until([&] { return shard.held.contains(1); }));
  EXPECT_EQ(fetch(shard.held.at(1)), ItemStatus::ok);
  EXPECT_EQ(store(1), ItemStatus::duplicate);
}

TEST_F(ShardLinkTest, PublishesWhatIsStoredWhileItReports) {
  stop_node();
  arena = *Arena::anonymous(64 << 20, NodeId{77});
  start();
  for (std::uint64_t key = 1; key <= 2500; key += 500) {
    for (std::uint64_t i = key; i < key + 500; ++i) client.store({{i, content_of(i, 64)}});
    ASSERT_TRUE(run_until([&] { return shard.held.size() == key + 499; }));
  }
  shard.held.clear();
  network.reset_connections("node", "shard");
  std::uint64_t key = 3000;
  while (shard.reports < 2) {
    ++key;
    client.store({{key, content_of(key, 64)}});
    for (int i = 0; i < 20; ++i) network.step();
  }
  const std::size_t all = 2500 + (key - 3000);
  EXPECT_TRUE(run_until([&] { return shard.held.size() == all; }, 5'000'000));
}

TEST_F(ShardLinkTest, RefusesFreesOfAnOldEpochOrAnotherLife) {
  start();
  store(1);
  shard.send_free({shard.at(1)}, Epoch{shard.epoch.value - 1});
  ++shard.incarnation.value;
  shard.send_free({shard.at(1)}, shard.epoch);
  --shard.incarnation.value;
  run_for(milliseconds(100));
  EXPECT_EQ(node->service().status().fenced_frees, 2u);
  EXPECT_TRUE(shard.freed.empty());
  EXPECT_EQ(fetch(shard.held.at(1)), ItemStatus::ok);
}

TEST_F(ShardLinkTest, ObeysARepeatedFreeOnceAndConfirmsItEachTime) {
  start();
  store(1);
  const wire::SlotRef at = shard.at(1);
  shard.send_free({at}, shard.epoch);
  ASSERT_TRUE(run_until([&] { return shard.freed.size() == 1; }));
  EXPECT_EQ(store(2), ItemStatus::ok);
  shard.send_free({at, {SlotId{200}, Generation{1}}}, shard.epoch);
  ASSERT_TRUE(run_until([&] { return shard.freed.size() == 3; }));
  EXPECT_EQ(fetch(shard.held.at(2)), ItemStatus::ok) << "the slot's next use is untouched";
  EXPECT_EQ(node->service().status().used_slots, 1u);
}

TEST_F(ShardLinkTest, RefusesAShardWhoseEpochIsOver) {
  start();
  shard.epoch = Epoch{2};
  network.reset_connections("node", "shard");
  run_for(seconds(5));
  EXPECT_GT(shard.registrations, 2);
  EXPECT_FALSE(node->service().status().connected);
  EXPECT_EQ(node->service().status().epoch, Epoch{3});
  shard.epoch = Epoch{4};
  EXPECT_TRUE(run_until([&] { return node->service().status().connected; }));
  EXPECT_EQ(node->service().status().epoch, Epoch{4});
}

TEST_F(ShardLinkTest, ServesProofsOfThisEpochAndTheOneBefore) {
  start();
  store(1);
  shard.epoch = Epoch{4};
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2; }));
  const wire::SlotEntry entry = shard.held.at(1);
  for (const auto& [epoch, expected] : {std::pair{Epoch{3}, ItemStatus::ok},
                                        {Epoch{4}, ItemStatus::ok},
                                        {Epoch{2}, ItemStatus::denied}}) {
    const OpId op = client.fetch({entry}, epoch);
    ASSERT_TRUE(run_until([&] { return client.fetched.contains(op.value); }));
    EXPECT_EQ(client.fetched[op.value][1], expected) << epoch.value;
  }
}

TEST_F(ShardLinkTest, ReportsAdoptedBlocksUnderTheNextIncarnation) {
  start();
  for (std::uint64_t key = 1; key <= 10; ++key) ASSERT_EQ(store(key), ItemStatus::ok);
  const wire::SlotEntry torn = shard.held.at(3);
  const wire::SlotEntry flipped = shard.held.at(4);
  stop_node();
  EXPECT_EQ(shard.incarnation, Incarnation{1});
  arena->seal(torn.slot).state.store(Seal::writing);
  arena->memory(flipped.slot, 5)[4] ^= std::byte{1};
  shard.held.clear();
  client.peer = {};
  start();
  EXPECT_EQ(shard.incarnation, Incarnation{2});
  EXPECT_EQ(shard.held.size(), 8u);
  EXPECT_FALSE(shard.held.contains(3));
  EXPECT_FALSE(shard.held.contains(4));
  EXPECT_EQ(node->service().status().used_slots, 8u);
  for (const auto& [key, entry] : shard.held) {
    EXPECT_EQ(fetch(entry), ItemStatus::ok);
    EXPECT_EQ(client.bytes[static_cast<std::uint32_t>(key)], content_of(key, 16384));
  }
}

TEST_F(ShardLinkTest, FreesWhatTheShardDoesNotWantOfAReport) {
  start();
  for (std::uint64_t key = 1; key <= 4; ++key) ASSERT_EQ(store(key), ItemStatus::ok);
  shard.verdicts = {{1, ItemStatus::duplicate}, {2, ItemStatus::refused}};
  network.reset_connections("node", "shard");
  EXPECT_TRUE(run_until([&] { return node->service().status().used_slots == 2; }));
  EXPECT_TRUE(sound());
}

TEST_F(ShardLinkTest, ForgetsACorruptSlotWithTheNextReport) {
  start();
  store(1);
  arena->memory(shard.held.at(1).slot, 5)[4] ^= std::byte{1};
  network.partition("node", "shard", true);
  client.send(wire::Suspect{shard.held.at(1).slot, shard.held.at(1).generation});
  run_for(seconds(10));
  EXPECT_EQ(node->service().status().corrupt_slots, 1u);
  network.partition("node", "shard", false);
  EXPECT_TRUE(run_until([&] { return shard.reports == 2; }));
  EXPECT_TRUE(shard.held.empty());
  EXPECT_TRUE(run_until([&] { return node->service().status().used_slots == 0; }));
}

TEST_F(ShardLinkTest, ForgetsASlotWhoseSealWasWrittenOverWithTheNextReport) {
  start();
  store(1);
  arena->seal(shard.held.at(1).slot).self_check ^= 1;
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2; }));
  EXPECT_TRUE(shard.held.empty());
  EXPECT_TRUE(run_until([&] { return node->service().status().used_slots == 0; }));
  EXPECT_TRUE(sound());
}

/// A shard that does not know the slot yet would let the word pass, and believe the report.
TEST_F(ShardLinkTest, SaysThatASlotIsCorruptOnlyAfterTheReportThatNamesIt) {
  start();
  store(1);
  const wire::SlotRef at = shard.at(1);
  shard.deaf_reports = 1;
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.registrations == 2 && shard.deaf_reports == 0; }));
  arena->memory(at.slot, 5)[4] ^= std::byte{1};
  client.send(wire::Suspect{at.slot, at.generation});
  ASSERT_TRUE(run_until([&] { return node->service().status().corrupt_slots == 1; }));
  run_for(milliseconds(200));  // before it is said again
  EXPECT_TRUE(shard.corrupt.empty());
  ASSERT_TRUE(run_until([&] { return !shard.corrupt.empty(); }));
  EXPECT_EQ(shard.reports, 2) << "the same one, said again";
  EXPECT_TRUE(shard.held.contains(1));
  EXPECT_EQ(shard.corrupt, std::vector{at});
}

class LossyWorld : public NodeWorld {
 protected:
  static SimFaults faults() {
    SimFaults faults;
    faults.loss = 0.05;
    faults.duplicate = 0.05;
    faults.reorder = 0.1;
    faults.reset = 0.002;
    return faults;
  }
  LossyWorld() : NodeWorld(1 << 20, faults()) {}
};

TEST_F(LossyWorld, KeepsItsPromisesOverANetworkThatLosesRepeatsAndReorders) {
  start_node();
  client.repeats = true;
  std::uint64_t key = 0;
  for (int round = 0; round < 400; ++round) {
    if (!client.peer || client.lost) {
      client.peer = {};
      client.lost = false;
      client.connect("node-data");
      run_until([&] { return static_cast<bool>(client.peer); }, 20'000);
      continue;
    }
    ++key;
    client.store({{key, content_of(key, 20'000)}, {key + 10'000, content_of(key, 3000)}});
    if (!shard.held.empty()) client.fetch({shard.held.begin()->second});
    if (round % 7 == 0 && !shard.held.empty()) {
      const auto victim = shard.held.begin();
      shard.send_free({{victim->second.slot, victim->second.generation}}, shard.epoch);
      shard.held.erase(victim);
    }
    run_for(milliseconds(round % 20));
    ASSERT_TRUE(sound()) << round;
    for (auto& [tag, bytes] : client.bytes) {
      ASSERT_EQ(bytes, content_of(tag % 10'000, bytes.size())) << tag;
    }
  }
  network.set_faults({});
  EXPECT_GT(key, 100u);
}

/// Tells the node to leave, as its process does.
void leave(NodeService& service) {
  Task<> leaving = service.leave();
  leaving.start();
}

TEST_F(ShardLinkTest, TakesNothingAnyMoreWhenItLeavesAndServesWhatItHas) {
  start();
  ASSERT_EQ(store(1), ItemStatus::ok);
  leave(node->service());
  ASSERT_TRUE(run_until([&] { return shard.farewells > 0; }));
  EXPECT_EQ(store(2), ItemStatus::full);
  EXPECT_EQ(fetch(shard.held.at(1)), ItemStatus::ok);
  EXPECT_TRUE(shard.asked.empty()) << "no victim helps it";
}

TEST_F(ShardLinkTest, HasLeftWhenTheShardSaysThatNothingIsThereAlone) {
  start();
  shard.alone = wire::Leaving::kNotCounted;
  leave(node->service());
  leave(node->service());
  ASSERT_TRUE(run_until([&] { return shard.farewells == 2; }));
  EXPECT_EQ(node->service().status().alone_blocks, 0u);
  EXPECT_FALSE(node->service().status().drained());
  shard.alone = 7;
  ASSERT_TRUE(run_until([&] { return node->service().status().alone_blocks == 7; }));
  EXPECT_FALSE(node->service().status().drained());
  shard.alone = 0;
  ASSERT_TRUE(run_until([&] { return node->service().status().drained(); }));
  EXPECT_EQ(node->service().status().alone_blocks, 0u);
}

TEST_F(ShardLinkTest, TellsWhoeverLeadsNextThatItLeaves) {
  start();
  shard.alone = 3;
  leave(node->service());
  ASSERT_TRUE(run_until([&] { return node->service().status().alone_blocks == 3; }));
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return node->service().status().alone_blocks == 0; }));
  shard.alone = 2;
  ASSERT_TRUE(run_until([&] { return node->service().status().alone_blocks == 2; }));
  EXPECT_EQ(shard.registrations, 2);
}

}  // namespace
}  // namespace membrain::node_test
