// Which blocks are copied, when, and when no more.
#include <gtest/gtest.h>

#include <optional>
#include <set>

#include "tests/server/replica_fixture.h"

namespace membrain::server_test {
namespace {

class ReplicaWatchTest : public ReplicaTest {
 protected:
  /// Copies, all of which are made at once.
  std::size_t ordered_in_four_seconds() {
    std::size_t ordered = 0;
    for (int i = 0; i < 40; ++i) {
      for (const wire::CopyBlocks& order : orders(milliseconds(100))) {
        ordered += order.items.size();
        obey(order);
      }
      for (const std::uint32_t node : {1U, 2U, 3U}) beat(node);
    }
    return ordered;
  }
};

TEST_F(ReplicaWatchTest, OfOneReplicaNothingIsCopied) {
  begin({1, wire::ZoneRule::any});
  publish(entry(1));
  EXPECT_EQ(degraded(), 0u);
  EXPECT_TRUE(orders().empty());
}

TEST_F(ReplicaWatchTest, ANewBlockIsCopiedToAnotherNode) {
  publish(entry(1));
  EXPECT_EQ(degraded(), 1u);
  const auto order = one_order();
  ASSERT_TRUE(order);
  EXPECT_NE(order->node, NodeId{1});
  EXPECT_EQ(order->source, NodeId{1});
  EXPECT_EQ(order->address, "node1");
  EXPECT_EQ(order->epoch, shard_->epoch());
  EXPECT_EQ(order->items[0].at, slot(1));
  EXPECT_EQ(order->items[0].meta.intent, wire::StoreIntent::replica);
  EXPECT_EQ(order->items[0].checksum, entry(1).checksum);
  obey(*order);
  EXPECT_EQ(degraded(), 0u);
  EXPECT_TRUE(orders().empty());
  EXPECT_EQ(nodes_of(1).size(), 2u);
}

TEST_F(ReplicaWatchTest, AnOrderIsRepeatedUntilItIsAnswered) {
  publish(entry(1));
  const auto order = one_order();
  ASSERT_TRUE(order);
  EXPECT_TRUE(orders(milliseconds(500)).empty());
  const auto again = one_order(milliseconds(600));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->items[0].copy, order->items[0].copy);
  obey(*order);
  EXPECT_TRUE(orders(seconds(2)).empty());
}

TEST_F(ReplicaWatchTest, AnAnswerThatComesTwiceChangesNothing) {
  publish(entry(1));
  const auto order = one_order();
  ASSERT_TRUE(order);
  obey(*order);
  end(*order, ItemStatus::ok);
  end(*order, ItemStatus::corrupt);
  EXPECT_EQ(shard_->copies().totals().copied, 1u);
  EXPECT_EQ(shard_->copies().totals().failed, 0u);
  EXPECT_EQ(degraded(), 0u);
}

TEST_F(ReplicaWatchTest, ThreeAreOnThreeNodes) {
  begin({3, wire::ZoneRule::any});
  publish(entry(1));
  EXPECT_EQ(settle(), 2u);
  EXPECT_EQ(nodes_of(1), (std::set<std::uint32_t>{1, 2, 3}));
}

TEST_F(ReplicaWatchTest, TheRuleOfZonesIsKept) {
  replicas_ = {2, wire::ZoneRule::spread};
  tenure_ = {};
  start();
  session_ = open();
  join(1, 1, "x");
  join(2, 1, "x");
  join(3, 1, "y");
  publish(entry(1));
  publish(entry(2), 3);
  EXPECT_EQ(settle(), 2u);
  EXPECT_EQ(nodes_of(1), (std::set<std::uint32_t>{1, 3}));
  EXPECT_EQ(nodes_of(2).size(), 2u);
}

TEST_F(ReplicaWatchTest, ALostNodesBlocksAreCopiedFromTheOthers) {
  for (std::uint64_t i = 1; i <= 100; ++i) publish(entry(i), 1);
  settle();
  ASSERT_EQ(degraded(), 0u);
  pass_with(seconds(5), {2, 3});
  EXPECT_EQ(degraded(), 100u);
  EXPECT_EQ(settle(), 100u);
  EXPECT_EQ(degraded(), 0u);
  for (std::uint64_t i = 1; i <= 100; ++i) {
    EXPECT_EQ(nodes_of(i), (std::set<std::uint32_t>{2, 3}));
  }
}

TEST_F(ReplicaWatchTest, WhoRegistersAgainIsHeardBeforeItsBlocksAreCopied) {
  publish(entry(1), 1);
  settle();
  const wire::SlotEntry first = entry(1);
  wire::RegisterNode again;
  again.node = NodeId{1};
  again.incarnation = Incarnation{2};
  ASSERT_TRUE(shard_->register_node(again, now_));
  incarnations_[1] = 2;
  EXPECT_EQ(degraded(), 1u);
  EXPECT_TRUE(orders().empty());
  report_all(1, {first});
  EXPECT_EQ(degraded(), 0u);
  EXPECT_EQ(settle(), 0u);
}

TEST_F(ReplicaWatchTest, ACorruptReplicaIsReplaced) {
  publish(entry(1), 1);
  settle();
  ASSERT_TRUE(shard_->corrupt({NodeId{1}, life(1), slot(1)}, now_));
  EXPECT_EQ(degraded(), 1u);
  EXPECT_EQ(settle(), 1u);
  // Its node's memory is in doubt: the new one is elsewhere.
  EXPECT_EQ(nodes_of(1), (std::set<std::uint32_t>{2, 3}));
}

TEST_F(ReplicaWatchTest, WhatIsPinnedIsReplacedAtOnceToo) {
  publish(entry(1), 1);
  settle();
  look(session_, 7, {1});
  ASSERT_TRUE(shard_->corrupt({NodeId{1}, life(1), slot(1)}, now_));
  EXPECT_EQ(degraded(), 1u);
  EXPECT_EQ(settle(), 1u);
  unpin(session_, 7);
}

TEST_F(ReplicaWatchTest, WhatThePolicyLetsGoIsNotCopiedAgain) {
  publish(entry(1), 1);
  settle();
  ASSERT_EQ(need(1).size(), 1u);  // evicts it from node 1
  EXPECT_EQ(degraded(), 0u);
  EXPECT_EQ(settle(), 0u);
  EXPECT_EQ(nodes_of(1).size(), 1u);
}

TEST_F(ReplicaWatchTest, WhatThePolicyLetGoAltogetherIsNewWhenItIsStoredAgain) {
  publish(entry(1), 1);
  publish(entry(2, 1, 1), 1);
  settle();
  const std::set<std::uint32_t> holders = nodes_of(1);
  ASSERT_EQ(holders.size(), 2u);
  for (const std::uint32_t node : holders) {
    const auto found = look(session_, next_lookup_, {1});
    unpin(session_, next_lookup_++);
    for (const auto& location : found.locations) {
      if (location.at.node == NodeId{node}) {
        need(1, node, {{location.at.slot, location.at.generation}});
      }
    }
  }
  ASSERT_TRUE(nodes_of(1).empty()) << "a ghost, for what hangs on it";
  auto again = entry(1);
  again.slot = SlotId{500};
  again.generation = Generation{700};
  ASSERT_EQ(publish(again, 1), ItemStatus::ok);
  EXPECT_EQ(degraded(), 1u);
  EXPECT_EQ(settle(), 1u);
}

TEST_F(ReplicaWatchTest, AFailedCopyIsTriedAgainLaterAndAtLastNotAnyMore) {
  publish(entry(1), 1);
  std::size_t tries = 0;
  for (int i = 0; i < 1000; ++i) {
    for (const wire::CopyBlocks& order : orders()) end(order, ItemStatus::unavailable), ++tries;
    for (const std::uint32_t node : {1U, 2U, 3U}) beat(node);
  }
  EXPECT_EQ(tries, ReplicaWatch::kMostAttempts);
  EXPECT_EQ(shard_->copies().totals().given_up, 1u);
  EXPECT_EQ(degraded(), 0u);
}

TEST_F(ReplicaWatchTest, ANodeThatSaysNothingCountsAsFailed) {
  publish(entry(1), 1);
  ASSERT_TRUE(one_order());
  pass_with(seconds(36), {1, 2, 3});
  EXPECT_EQ(shard_->copies().totals().failed, 1u);
  EXPECT_EQ(settle(), 1u);
}

TEST_F(ReplicaWatchTest, ANodeThatSaysOkWithoutHavingItIsNotBelieved) {
  publish(entry(1), 1);
  const auto order = one_order();
  ASSERT_TRUE(order);
  end(*order, ItemStatus::ok);
  EXPECT_EQ(degraded(), 1u);
  EXPECT_EQ(shard_->copies().totals().failed, 1u);
  EXPECT_TRUE(orders().empty());
}

TEST_F(ReplicaWatchTest, AFullNodeIsAskedLaterAndNobodyIsBlamed) {
  publish(entry(1), 1);
  std::size_t tries = 0;
  for (int i = 0; i < 400; ++i) {  // 100 seconds
    for (const wire::CopyBlocks& order : orders()) end(order, ItemStatus::full), ++tries;
    for (const std::uint32_t node : {1U, 2U, 3U}) beat(node);
  }
  EXPECT_GT(tries, ReplicaWatch::kMostAttempts);
  EXPECT_LE(tries, 120u);
  EXPECT_EQ(degraded(), 1u);
  EXPECT_EQ(shard_->copies().totals().given_up, 0u);
  pass_with(seconds(3), {1, 2, 3});
  EXPECT_EQ(settle(), 1u);
}

TEST_F(ReplicaWatchTest, WhereNobodyHasRoomNothingIsOrderedUntilSomebodyHas) {
  for (const std::uint32_t node : {1U, 2U, 3U}) beat(node, 999);
  publish(entry(1), 1);
  EXPECT_TRUE(orders().empty());
  EXPECT_EQ(degraded(), 1u);
  pass_with(seconds(3), {1, 2, 3});
  EXPECT_EQ(settle(), 1u);
}

TEST_F(ReplicaWatchTest, ACopyThatItsBlockDidNotOutliveIsForgotten) {
  publish(entry(1), 1);
  const auto order = one_order();
  ASSERT_TRUE(order);
  ASSERT_EQ(need(1).size(), 1u);
  EXPECT_EQ(blocks(), 0u);
  EXPECT_EQ(degraded(), 0u);
  end(*order, ItemStatus::not_found);
  EXPECT_TRUE(orders().empty());
  EXPECT_EQ(shard_->copies().under_way(), 0u);
}

TEST_F(ReplicaWatchTest, AnotherBlockInTheSameRecordIsNotTakenForIt) {
  publish(entry(1), 1);
  const auto order = one_order();
  ASSERT_TRUE(order);
  ASSERT_EQ(need(1).size(), 1u);
  publish(entry(2), 1);
  const auto other = one_order();
  ASSERT_TRUE(other);
  end(*order, ItemStatus::not_found);
  obey(*other);
  EXPECT_EQ(degraded(), 0u);
  EXPECT_EQ(nodes_of(2).size(), 2u);
}

TEST_F(ReplicaWatchTest, WhatIsClearedIsNotCopied) {
  publish(entry(1), 1);
  ASSERT_TRUE(clear({session_, space_, era_}));
  EXPECT_TRUE(orders().empty());
  EXPECT_EQ(degraded(), 0u);
}

TEST_F(ReplicaWatchTest, NoMoreBytesAreOrderedThanAreAllowed) {
  copies_.bytes_per_second = 10'000;
  begin({2, wire::ZoneRule::any});
  for (std::uint64_t i = 1; i <= 200; ++i) publish(entry(i), 1);  // 1000 bytes each
  const std::size_t ordered = ordered_in_four_seconds();
  EXPECT_GE(ordered, 35u);
  EXPECT_LE(ordered, 45u);
}

TEST_F(ReplicaWatchTest, OfWhatIsAllowedAShardTakesItsShare) {
  copies_.bytes_per_second = 40'000;
  begin({2, wire::ZoneRule::any});
  shard_->share_copies(4);
  for (std::uint64_t i = 1; i <= 200; ++i) publish(entry(i), 1);  // 1000 bytes each
  const std::size_t ordered = ordered_in_four_seconds();
  EXPECT_GE(ordered, 35u);
  EXPECT_LE(ordered, 45u);
}

TEST_F(ReplicaWatchTest, NoNodeIsGivenMoreAtOnceThanItsBound) {
  for (std::uint64_t i = 1; i <= 500; ++i) publish(entry(i), 1);
  std::size_t under_way = 0;
  for (int i = 0; i < 20; ++i) {
    for (const wire::CopyBlocks& order : orders(milliseconds(10))) under_way += order.items.size();
  }
  EXPECT_EQ(under_way, kMostCopiesOfNode);  // all come from node 1
}

TEST_F(ReplicaWatchTest, MoreBlocksThanTheQueueHoldsAreFoundByWalkingOverAll) {
  // More than the queue holds, none of which can go anywhere at first.
  const std::uint64_t many = ReplicaWatch::kMostQueued + 20'000;
  for (const std::uint32_t node : {2U, 3U}) beat(node, 0);
  for (std::uint64_t i = 1; i <= many; ++i) publish(entry(i), 1);
  EXPECT_EQ(degraded(), many);
  for (const std::uint32_t node : {1U, 2U, 3U}) beat(node, 1 << 30);
  std::size_t copied = 0;
  for (int round = 0; round < 100 && degraded() > 0; ++round) {
    pass_with(milliseconds(500), {1, 2, 3}, 1 << 30);
    copied += settle(100'000);
  }
  EXPECT_EQ(degraded(), 0u);
  EXPECT_EQ(copied, many);
}

TEST_F(ReplicaWatchTest, AClientsWishGoesBeforeTheServersRule) {
  begin({1, wire::ZoneRule::any});
  publish(entry(1), 1);
  wire::OpenNamespace wish = opening("a model");
  wish.replicas = 2;
  ASSERT_TRUE(shard_->open(session_, wish, now_));
  EXPECT_EQ(settle(), 1u);
  wish.replicas = 1;  // another's wish takes nothing from it
  ASSERT_TRUE(shard_->open(session_, wish, now_));
  publish(entry(2), 1);
  EXPECT_EQ(settle(), 1u);
}

TEST_F(ReplicaWatchTest, AHotBlockGetsMoreReplicas) {
  copies_.hot_lookups = 10;
  begin({1, wire::ZoneRule::any});
  publish(entry(1), 1);
  publish(entry(2), 1);
  const auto look_up = [&](std::uint64_t number, int times) {
    for (int i = 0; i < times; ++i) {
      look(session_, next_lookup_, {number});
      unpin(session_, next_lookup_++);
    }
  };
  look_up(2, 9);
  EXPECT_TRUE(orders(milliseconds(1)).empty());
  look_up(1, 10);
  EXPECT_EQ(settle(), 1u);
  EXPECT_EQ(shard_->copies().totals().hot, 1u);
  EXPECT_EQ(degraded(), 0u);
  look_up(1, 9);
  EXPECT_EQ(settle(), 0u);
  look_up(1, 1);
  EXPECT_EQ(settle(), 1u);
  EXPECT_EQ(nodes_of(1).size(), 3u);
  EXPECT_EQ(nodes_of(2).size(), 1u);
}

TEST_F(ReplicaWatchTest, WhatIsHotNoMoreIsNotCopied) {
  copies_.hot_lookups = 10;
  begin({1, wire::ZoneRule::any});
  publish(entry(1), 1);
  for (int i = 0; i < 10; ++i) nodes_of(1);
  EXPECT_TRUE(orders(seconds(2)).empty());
}

TEST_F(ReplicaWatchTest, AfterARestartNothingIsCopiedBeforeTheReportsAreIn) {
  publish(entry(1), 1);
  settle();
  start();  // a second term
  session_ = open();
  join(1, 1, "", {entry(1)});
  EXPECT_EQ(degraded(), 1u);
  EXPECT_TRUE(orders().empty());
  pass_with(seconds(11), {1});
  join(2);
  EXPECT_EQ(settle(), 1u);
}

}  // namespace
}  // namespace membrain::server_test
