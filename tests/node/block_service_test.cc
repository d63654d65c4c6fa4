#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/node/node_world.h"

namespace membrain::node_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class BlockServiceTest : public NodeWorld {};

TEST_F(BlockServiceTest, KeepsABlockAndGivesBackItsBytes) {
  start();
  EXPECT_EQ(store(1), ItemStatus::ok);
  const wire::SlotEntry entry = shard.held.at(1);
  EXPECT_EQ(entry.checksum, checksum(content_of(1, 16384)));
  EXPECT_EQ(fetch(entry), ItemStatus::ok);
  EXPECT_EQ(client.bytes[1], content_of(1, 16384));
  EXPECT_TRUE(sound());
  run_for(milliseconds(1));
  const NodeStatus status = node->service().status();
  EXPECT_EQ(status.used_slots, 1u);
  EXPECT_EQ(status.bytes_in, 16384u);
  EXPECT_EQ(status.bytes_out, 16384u);
  EXPECT_EQ(status.epoch, shard.epoch);
}

TEST_F(BlockServiceTest, AnswersABlockThatItHasWithoutReceivingIt) {
  start();
  EXPECT_EQ(store(1), ItemStatus::ok);
  EXPECT_EQ(store(1), ItemStatus::duplicate);
  EXPECT_EQ(node->service().status().bytes_in, 16384u);
  EXPECT_EQ(node->service().status().used_slots, 1u);
}

TEST_F(BlockServiceTest, KeepsTheGoodItemsOfAMixedStore) {
  start();
  EXPECT_EQ(store(2), ItemStatus::ok);
  shard.verdicts[3] = ItemStatus::old_era;
  shard.verdicts[4] = ItemStatus::duplicate;
  const OpId op = client.store({{1, content_of(1, 9000)},
                                {2, content_of(2, 16384)},
                                {3, content_of(3, 5000)},
                                {4, content_of(4, 100)},
                                {5, content_of(5, 1)}});
  ASSERT_TRUE(run_until([&] { return client.stored.contains(op.value); }));
  const std::vector<ItemStatus> expected = {ItemStatus::ok, ItemStatus::duplicate,
                                            ItemStatus::old_era, ItemStatus::duplicate,
                                            ItemStatus::ok};
  EXPECT_EQ(client.stored[op.value], expected);
  EXPECT_EQ(node->service().status().used_slots, 3u);
  EXPECT_EQ(fetch(shard.held.at(1)), ItemStatus::ok);
  EXPECT_EQ(client.bytes[1], content_of(1, 9000));
  EXPECT_EQ(fetch(shard.held.at(5)), ItemStatus::ok);
  EXPECT_EQ(client.bytes[5], content_of(5, 1));
}

TEST_F(BlockServiceTest, JoinsStoresOfTheSameBlockThatOverlap) {
  start();
  const OpId a = client.store({{1, content_of(1, 16384)}});
  const OpId b = client.store({{1, content_of(1, 16384)}, {1, content_of(1, 16384)}});
  ASSERT_TRUE(run_until(
      [&] { return client.stored.contains(a.value) && client.stored.contains(b.value); }));
  int stored = 0;
  for (const OpId op : {a, b}) {
    for (const ItemStatus status : client.stored[op.value]) {
      EXPECT_TRUE(status == ItemStatus::ok || status == ItemStatus::duplicate);
      stored += status == ItemStatus::ok ? 1 : 0;
    }
  }
  EXPECT_EQ(stored, 1);
  EXPECT_EQ(node->service().status().used_slots, 1u);
  EXPECT_TRUE(sound());
}

TEST_F(BlockServiceTest, SaysFullAtOnceAndNeverWaits) {
  start();
  shard.gives_victims = false;
  std::uint64_t key = 1;
  while (store(key) == ItemStatus::ok) ++key;
  EXPECT_EQ(key - 1, (1u << 20) / 16384);
  const TimePoint before = clock.now();
  EXPECT_EQ(store(key), ItemStatus::full);
  EXPECT_LT(clock.now() - before, milliseconds(5));
  EXPECT_EQ(node->service().status().used_slots, key - 1);
}

TEST_F(BlockServiceTest, AsksAheadSoThatAFullArenaGoesOnTakingBlocks) {
  start();
  for (std::uint64_t key = 1; key <= 300; ++key) {
    EXPECT_EQ(store(key), ItemStatus::ok) << key;
    run_for(milliseconds(1));
  }
  EXPECT_GT(shard.asked.size(), 5u);
  EXPECT_TRUE(run_until([&] { return shard.freed.size() + shard.held.size() == 300; }));
  EXPECT_EQ(node->service().status().used_slots, shard.held.size());
}

TEST_F(BlockServiceTest, EmptiesASlabForBlocksOfAnotherSize) {
  start();
  for (std::uint64_t key = 1; key <= 60; ++key) store(key);
  ItemStatus status = ItemStatus::full;
  for (std::uint64_t key = 1000; status != ItemStatus::ok && key < 1020; ++key) {
    status = store(key, 100'000);
    run_for(milliseconds(60));
  }
  EXPECT_EQ(status, ItemStatus::ok);
  EXPECT_TRUE(sound());
}

TEST_F(BlockServiceTest, RefusesProofsThatAreNotTheShards) {
  start();
  store(1);
  wire::Store request;
  request.proof = proof_of(shard.epoch);
  request.proof.session.value ^= 1;
  request.deadline_ms = 1000;
  request.items.push_back({meta_of(9), 10, checksum(content_of(9, 10))});
  const OpId stored = client.store_raw(request, content_of(9, 10));
  const OpId old = client.fetch({shard.held.at(1)}, Epoch{2});
  const OpId ahead = client.fetch({shard.held.at(1)}, Epoch{4});
  ASSERT_TRUE(run_until([&] {
    return client.stored.contains(stored.value) && client.fetched.contains(old.value) &&
           client.fetched.contains(ahead.value);
  }));
  EXPECT_EQ(client.stored[stored.value][0], ItemStatus::denied);
  EXPECT_EQ(client.fetched[old.value][1], ItemStatus::denied);
  EXPECT_EQ(client.fetched[ahead.value][1], ItemStatus::unavailable);
}

TEST_F(BlockServiceTest, RefusesAStoreWhoseLengthsAreNotItsPayloads) {
  start();
  wire::Store request;
  request.proof = proof_of(shard.epoch);
  request.deadline_ms = 1000;
  request.items.push_back({meta_of(9), 11, checksum(content_of(9, 11))});
  const OpId op = client.store_raw(request, content_of(9, 10));
  ASSERT_TRUE(run_until([&] { return client.refused.contains(op.value); }));
  EXPECT_EQ(client.refused[op.value], Errc::invalid_argument);
}

TEST_F(BlockServiceTest, DoesNotKeepBytesThatArriveOtherThanTheyWereSent) {
  start();
  wire::Store request;
  request.proof = proof_of(shard.epoch);
  request.deadline_ms = 1000;
  request.items.push_back({meta_of(9), 10, checksum(content_of(8, 10))});
  const OpId op = client.store_raw(request, content_of(9, 10));
  ASSERT_TRUE(run_until([&] { return client.stored.contains(op.value); }));
  EXPECT_EQ(client.stored[op.value][0], ItemStatus::corrupt);
  EXPECT_FALSE(shard.held.contains(9));
}

TEST_F(BlockServiceTest, ClosesAConnectionThatSendsJunkAndServesTheOthers) {
  start();
  FakeClient junk(network, clock, "junk");
  junk.connect("node-data");
  ASSERT_TRUE(run_until([&] { return static_cast<bool>(junk.peer); }));
  wire::Fetch request;
  request.items.resize(wire::kMaxFetchItems + 1);
  junk.send(request);
  ASSERT_TRUE(run_until([&] { return junk.lost; }));
  EXPECT_EQ(store(1), ItemStatus::ok);
}

TEST_F(BlockServiceTest, RefusesMessagesThatAreNotForANode) {
  start();
  const OpId op = client.send(wire::Heartbeat{});
  ASSERT_TRUE(run_until([&] { return client.refused.contains(op.value); }));
}

TEST_F(BlockServiceTest, SendsLargeBlocksAloneAndSmallOnesTogether) {
  stop_node();
  arena = *Arena::anonymous(64 << 20, NodeId{77});
  start();
  std::vector<wire::SlotEntry> entries;
  for (std::uint64_t key = 1; key <= 8; ++key) {
    ASSERT_EQ(store(key, key <= 5 ? 10'000 : 200'000), ItemStatus::ok);
    entries.push_back(shard.held.at(key));
  }
  const OpId op = client.fetch(entries);
  ASSERT_TRUE(run_until([&] { return client.fetched[op.value].size() == 8; }));
  EXPECT_EQ(client.messages_with_bytes, 4);
  for (std::uint32_t key = 1; key <= 8; ++key) {
    EXPECT_EQ(client.bytes[key], content_of(key, key <= 5 ? 10'000 : 200'000));
  }
}

TEST_F(BlockServiceTest, AnswersEachItemOfAFetchByItsOwnFate) {
  start();
  store(1);
  store(2);
  wire::SlotEntry stale = shard.held.at(1);
  ++stale.generation.value;
  stale.meta.key.low = 3;
  wire::SlotEntry nowhere = shard.held.at(1);
  nowhere.slot.value = 1u << 30;
  nowhere.meta.key.low = 4;
  const OpId op = client.fetch({stale, shard.held.at(1), nowhere, shard.held.at(2)});
  ASSERT_TRUE(run_until([&] { return client.fetched[op.value].size() == 4; }));
  EXPECT_EQ(client.fetched[op.value][1], ItemStatus::ok);
  EXPECT_EQ(client.fetched[op.value][2], ItemStatus::ok);
  EXPECT_EQ(client.fetched[op.value][3], ItemStatus::stale);
  EXPECT_EQ(client.fetched[op.value][4], ItemStatus::not_found);
}

TEST_F(BlockServiceTest, FreesASlotUnderAFetchOnlyWhenItHasDrained) {
  start();
  store(1);
  const wire::SlotEntry entry = shard.held.at(1);
  client.hold_payloads = true;
  client.fetch({entry});
  ASSERT_TRUE(run_until([&] { return client.held.size() == 1; }));
  shard.send_free({shard.at(1)}, shard.epoch);
  ASSERT_TRUE(run_until([&] { return shard.freed.size() == 1; })) << "Freed is answered at once";
  EXPECT_EQ(node->service().status().used_slots, 1u);
  EXPECT_TRUE(sound());
  client.hold_payloads = false;
  EXPECT_EQ(fetch(entry), ItemStatus::stale);
  client.held.clear();
  EXPECT_TRUE(run_until([&] { return node->service().status().used_slots == 0; }));
  EXPECT_TRUE(sound());
}

TEST_F(BlockServiceTest, DropsWhatIsUnsentOfACancelledFetch) {
  stop_node();
  arena = *Arena::anonymous(64 << 20, NodeId{77});
  start();
  std::vector<wire::SlotEntry> entries;
  for (std::uint64_t key = 1; key <= 12; ++key) {
    store(key, 200'000);
    entries.push_back(shard.held.at(key));
  }
  client.hold_payloads = true;
  const OpId op = client.fetch(entries);
  constexpr std::size_t kInFlight = FetchService::kWindowMessages;
  ASSERT_TRUE(run_until([&] { return client.held.size() == kInFlight; }));
  run_for(milliseconds(10));
  EXPECT_EQ(client.held.size(), kInFlight);
  client.send(wire::CancelFetch{op});
  run_for(milliseconds(10));
  client.held.clear();
  ASSERT_TRUE(run_until([&] { return client.fetched[op.value].size() == 12 - kInFlight; }));
  for (const auto& [tag, status] : client.fetched[op.value]) {
    EXPECT_EQ(status, ItemStatus::cancelled);
  }
}

TEST_F(BlockServiceTest, ClosesAPeerWhoseFetchHangsSoThatItsSlotsAreFreeAgain) {
  start();
  store(1);
  client.hold_payloads = true;
  client.fetch({shard.held.at(1)});
  ASSERT_TRUE(run_until([&] { return client.held.size() == 1; }));
  shard.send_free({shard.at(1)}, shard.epoch);
  run_for(seconds(2));
  EXPECT_EQ(node->service().status().used_slots, 1u);
  run_for(seconds(2));
  EXPECT_EQ(node->service().status().used_slots, 0u);
  EXPECT_TRUE(run_until([&] { return client.lost; }));
  client.held.clear();
}

TEST_F(BlockServiceTest, GivesTheSlotsOfALostSenderBack) {
  stop_node();
  SimFaults slow;
  slow.bytes_per_second = 1'000'000;
  network.set_faults(slow);
  start();
  client.store({{1, content_of(1, 500'000)}});
  ASSERT_TRUE(run_until([&] { return node->service().status().used_slots == 1; }));
  network.reset_connections("client", "node");
  EXPECT_TRUE(run_until([&] { return node->service().status().used_slots == 0; }));
  EXPECT_TRUE(sound());
}

TEST_F(BlockServiceTest, FindsASuspectedFlippedByteAndServesTheSlotNoMore) {
  start();
  store(1);
  store(2);
  const wire::SlotEntry entry = shard.held.at(1);
  client.send(wire::Suspect{shard.held.at(2).slot, shard.held.at(2).generation});
  arena->memory(entry.slot, entry.length)[99] ^= std::byte{4};
  client.send(wire::Suspect{entry.slot, entry.generation});
  ASSERT_TRUE(run_until([&] { return !shard.corrupt.empty(); }));
  run_for(seconds(1));
  ASSERT_EQ(shard.corrupt.size(), 1u);
  EXPECT_EQ(shard.corrupt[0], shard.at(1));
  EXPECT_EQ(fetch(entry), ItemStatus::corrupt);
  EXPECT_EQ(fetch(shard.held.at(2)), ItemStatus::ok);
  EXPECT_EQ(store(1), ItemStatus::ok) << "a good copy takes its place";
  shard.send_free(shard.corrupt, shard.epoch);
  EXPECT_TRUE(run_until([&] { return node->service().status().used_slots == 2; }));
  EXPECT_TRUE(sound());
}

TEST_F(BlockServiceTest, GivesUpABlockWhoseSealWasWrittenOverWhenItIsFetched) {
  start();
  store(1);
  const wire::SlotEntry entry = shard.held.at(1);
  const wire::SlotRef at = shard.at(1);
  arena->seal(entry.slot).self_check ^= 1;
  EXPECT_EQ(fetch(entry), ItemStatus::corrupt);
  ASSERT_TRUE(run_until([&] { return !shard.corrupt.empty(); }));
  EXPECT_EQ(shard.corrupt, std::vector{at});
  EXPECT_EQ(store(1), ItemStatus::ok) << "a good copy takes its place";
  EXPECT_EQ(fetch(shard.held.at(1)), ItemStatus::ok);
  EXPECT_EQ(fetch(entry), ItemStatus::corrupt);
  run_for(seconds(1));
  EXPECT_EQ(shard.corrupt.size(), 1u) << "it is told once";
  shard.send_free(shard.corrupt, shard.epoch);
  EXPECT_TRUE(run_until([&] { return node->service().status().used_slots == 1; }));
  EXPECT_TRUE(sound());
}

TEST_F(BlockServiceTest, ShedsStoresBeyondItsLimit) {
  start();
  NodeConfig tight = config();
  tight.limits.store.max_receiving_bytes = 20'000;
  stop_node();
  node = std::make_unique<NodeProcess>(network, clock, *arena, tight);
  ASSERT_TRUE(node->service().start());
  ASSERT_TRUE(run_until([&] { return node->service().status().connected; }));
  client.connect("node-data");
  client.peer = {};
  ASSERT_TRUE(run_until([&] { return static_cast<bool>(client.peer); }));
  const OpId a = client.store({{1, content_of(1, 16384)}});
  const OpId b = client.store({{2, content_of(2, 16384)}});
  ASSERT_TRUE(run_until(
      [&] { return client.stored.contains(a.value) && client.stored.contains(b.value); }));
  EXPECT_EQ(client.stored[a.value][0], ItemStatus::ok);
  EXPECT_EQ(client.stored[b.value][0], ItemStatus::unavailable);
}

TEST_F(BlockServiceTest, StopsWithStoresAndFetchesUnderWay) {
  start();
  store(1);
  client.hold_payloads = true;
  client.fetch({shard.held.at(1)});
  ASSERT_TRUE(run_until([&] { return client.held.size() == 1; }));
  shard.deaf_publishes = 1000;
  client.store({{2, content_of(2, 16384)}});
  run_for(milliseconds(5));
  stop_node();
  client.held.clear();
}

}  // namespace
}  // namespace membrain::node_test
