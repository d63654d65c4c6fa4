// What becomes of the blocks of nodes that say that they go.
#include <gtest/gtest.h>

#include <cstdint>
#include <set>

#include "tests/server/replica_fixture.h"

namespace membrain::server_test {
namespace {

using Nodes = std::set<std::uint32_t>;

class LeaversTest : public ReplicaTest {
 protected:
  LeaversTest() { begin({1, wire::ZoneRule::any}); }

  /// What the shard says is left, after it had time to count.
  std::uint64_t leave(std::uint32_t node) {
    shard_->tick(now_ += milliseconds(250));
    const auto answer = shard_->leave({NodeId{node}, life(node)}, now_);
    EXPECT_TRUE(answer) << "a node that is registered";
    return answer ? answer->alone : 0;
  }
  static constexpr std::uint64_t kNotCounted = wire::Leaving::kNotCounted;
};

TEST_F(LeaversTest, NothingIsSaidToBeLeftBeforeItIsCounted) {
  publish(entry(1));
  EXPECT_EQ(shard_->leave({NodeId{1}, life(1)}, now_)->alone, kNotCounted);
  EXPECT_EQ(leave(1), 1u);
}

TEST_F(LeaversTest, WhatTheyAloneHaveIsCopiedThoughOneReplicaIsWanted) {
  for (std::uint64_t i = 1; i <= 100; ++i) publish(entry(i), 1);
  publish(entry(200), 2);
  leave(1);
  EXPECT_EQ(leave(1), 100u);
  EXPECT_EQ(settle(), 100u);
  EXPECT_EQ(leave(1), 0u);
  EXPECT_EQ(degraded(), 0u);
  EXPECT_EQ(nodes_of(200), Nodes{2});
  pass_with(seconds(5), {2, 3});  // it is gone
  for (std::uint64_t i = 1; i <= 100; ++i) EXPECT_EQ(nodes_of(i).size(), 1u) << i;
}

TEST_F(LeaversTest, NobodyIsSentToThemOnceAnotherHasTheBlock) {
  publish(entry(1), 1);
  leave(1);
  EXPECT_EQ(nodes_of(1), Nodes{1});
  EXPECT_EQ(settle(), 1u);
  EXPECT_FALSE(nodes_of(1).contains(1));
}

TEST_F(LeaversTest, TheyAreGivenNothing) {
  begin({2, wire::ZoneRule::any});
  leave(1);
  for (std::uint64_t i = 1; i <= 20; ++i) publish(entry(i), 2);
  EXPECT_EQ(settle(), 20u);
  for (std::uint64_t i = 1; i <= 20; ++i) EXPECT_EQ(nodes_of(i), (Nodes{2, 3})) << i;
  const Result<wire::NodeList> list = shard_->list_nodes(session_, now_);
  ASSERT_TRUE(list);
  for (const wire::NodeEntry& node : list->nodes) {
    EXPECT_EQ(node.capacity_bytes == 0, node.node == NodeId{1});
  }
}

TEST_F(LeaversTest, EachIsToldOfItsOwnAndTwoThatLeaveDoNotKeepForEachOther) {
  begin({2, wire::ZoneRule::any});
  publish(entry(1), 1);
  publish(entry(2), 3);
  ASSERT_EQ(settle(), 2u);
  const Nodes before = nodes_of(1);
  for (const std::uint32_t node : before) leave(node);
  leave(*before.begin());
  for (const std::uint32_t node : before) EXPECT_GE(leave(node), 1u);
  settle();
  EXPECT_EQ(nodes_of(1).size(), 1u) << "there is one node left";
  for (const std::uint32_t node : before) EXPECT_EQ(leave(node), 0u);
}

TEST_F(LeaversTest, WhatTheEvictionPolicyLetGoElsewhereIsCopiedAgain) {
  begin({2, wire::ZoneRule::any});
  publish(entry(1), 1);
  ASSERT_EQ(settle(), 1u);
  const Nodes both = nodes_of(1);
  const std::uint32_t other = *both.rbegin();
  wire::NeedSlots need{NodeId{other}, life(other), kSlotBytes, 1, {}};
  ASSERT_EQ(shard_->need_slots(need, now_)->items.size(), 1u);
  EXPECT_EQ(settle(), 0u) << "it is thin: one replica is enough";
  leave(1);
  EXPECT_EQ(leave(1), 1u);
  EXPECT_EQ(settle(), 1u);
  EXPECT_EQ(leave(1), 0u);
}

TEST_F(LeaversTest, OfAnEraThatIsOverNothingIsCopied) {
  publish(entry(1), 1);
  ASSERT_TRUE(clear({session_, space_, era_}));
  leave(1);
  EXPECT_EQ(leave(1), 0u);
  EXPECT_EQ(settle(), 0u);
}

TEST_F(LeaversTest, OneThatComesBackIsANodeLikeOthers) {
  publish(entry(1), 1);
  leave(1);
  join(1, 2, "", {entry(1)});
  EXPECT_EQ(degraded(), 0u);
  EXPECT_EQ(settle(), 0u);
  EXPECT_EQ(nodes_of(1), Nodes{1});
}

TEST_F(LeaversTest, OneThatIsLostLeavesNoMore) {
  publish(entry(1), 1);
  publish(entry(2), 2);
  leave(1);
  pass_with(seconds(5), {2, 3});
  EXPECT_FALSE(shard_->copies().anyone_leaves());
  EXPECT_EQ(degraded(), 0u);
}

TEST_F(LeaversTest, WithoutRoomElsewhereItIsSaidHowMuchIsLeft) {
  for (std::uint64_t i = 1; i <= 5; ++i) publish(entry(i), 1);
  leave(1);
  for (int round = 0; round < 20; ++round) {
    for (const wire::CopyBlocks& order : orders()) end(order, ItemStatus::full);
    for (const std::uint32_t node : {1U, 2U, 3U}) beat(node);
  }
  EXPECT_EQ(leave(1), 5u);
}

TEST_F(LeaversTest, WhatEnginesLendTakesNoPlaceOfACopyThatStays) {
  for (const std::uint32_t lender : {11U, 12U, 13U}) {
    register_lender(lender);
    ASSERT_EQ(publish(entry(1), lender), ItemStatus::ok);
  }
  ASSERT_EQ(publish(entry(1), 1), ItemStatus::ok);
  leave(1);
  EXPECT_EQ(leave(1), 1u);
  EXPECT_EQ(settle(), 1u);
  EXPECT_EQ(leave(1), 0u);
  const Nodes named = nodes_of(1);
  EXPECT_EQ(named.size(), 4u) << "as many as an answer names";
  EXPECT_FALSE(named.contains(1)) << "it leaves";
  EXPECT_TRUE(named.contains(2) || named.contains(3));
}

TEST_F(LeaversTest, AWholeCatalogIsCountedInBoundedParts) {
  const std::uint64_t many = 2 * Leavers::kEntries + 10;
  for (std::uint64_t i = 1; i <= many; ++i) publish(entry(i), 1);
  EXPECT_FALSE(shard_->sweeping());
  EXPECT_EQ(leave(1), kNotCounted);
  for (int part = 0; part < 2; ++part) {
    EXPECT_EQ(leave(1), kNotCounted);
    EXPECT_TRUE(shard_->sweeping()) << "the next part at once: a large catalog has thousands";
  }
  EXPECT_EQ(leave(1), many);
  EXPECT_FALSE(shard_->sweeping()) << "a pause between two walks";
}

}  // namespace
}  // namespace membrain::server_test
