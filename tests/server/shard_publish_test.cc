#include <gtest/gtest.h>

#include "tests/server/shard_fixture.h"

namespace membrain::server_test {
namespace {

/// What a shard takes in, from nodes and from engines that lend.
class ShardPublishTest : public ShardTest {
 protected:
  ShardPublishTest() : session_(open()) { register_node(); }
  SessionId session_;
};

// ---- publishing

TEST_F(ShardPublishTest, AParentThatIsAnotherShardsCostsNothing) {
  const auto records = [&] { return shard_->catalog().records().entries.end(); };
  publish(entry(2, 1, 1));
  EXPECT_EQ(records(), 2u) << "its parent may come yet";
  range_ = {key(2).high, UINT64_MAX};
  start();
  session_ = open();
  register_node();
  pass(seconds(20), {session_});
  publish(entry(2, 1, 1));
  publish(entry(3, 2, 2));
  EXPECT_EQ(records(), 2u);
  EXPECT_EQ(blocks(), 2u);
  EXPECT_EQ(need(1).size(), 1u);
  EXPECT_EQ(look(session_, 9, {2, 3}).prefix_blocks, 1u) << "the leaf goes first";
}

TEST_F(ShardPublishTest, APublicationThatComesAgainIsStored) {
  EXPECT_EQ(publish(entry(1)), ItemStatus::ok);
  EXPECT_EQ(publish(entry(1)), ItemStatus::ok);
  EXPECT_EQ(shard_->catalog().counts().replicas, 1u);
}

TEST_F(ShardPublishTest, ASecondCopyOfAComputedBlockIsADuplicate) {
  register_node(2);
  publish(entry(1));
  EXPECT_EQ(publish(entry(1), 2), ItemStatus::duplicate);
  auto elsewhere = entry(1);
  elsewhere.slot = SlotId{77};
  EXPECT_EQ(publish(elsewhere), ItemStatus::duplicate);
}

TEST_F(ShardPublishTest, WhatWasTurnedDownOnceIsNeverTaken) {
  register_node(2);
  publish(entry(1));
  EXPECT_EQ(publish(entry(1), 2), ItemStatus::duplicate);
  EXPECT_EQ(publish(entry(1), 2), ItemStatus::duplicate);
  look(session_, 9, {1});
  freed({slot(1)});
  EXPECT_EQ(publish(entry(1), 2), ItemStatus::refused) << "node 2 has freed that slot long ago";
  EXPECT_FALSE(has(look(session_, 0, {1}), 0));
  auto again = entry(1);
  again.generation.value += 1;
  EXPECT_EQ(publish(again, 2), ItemStatus::ok) << "this is another use of it";
}

TEST_F(ShardPublishTest, ALaterUseOfASlotEndsTheFormerEvenIfItIsTurnedDown) {
  publish(entry(1));
  auto later = entry(2);
  later.slot = slot(1).slot;
  later.generation.value = slot(1).generation.value + 1;
  later.meta.era.value = era_.value + 1;
  EXPECT_EQ(publish(later), ItemStatus::refused);
  EXPECT_EQ(blocks(), 0u);
  EXPECT_EQ(shard_->check_invariants(), "");
}

TEST_F(ShardPublishTest, AnotherNameForASlotThatIsHereCostsItNothing) {
  publish(entry(1));
  auto liar = entry(2);
  liar.slot = slot(1).slot, liar.generation = slot(1).generation;
  EXPECT_EQ(publish(liar), ItemStatus::refused);
  EXPECT_EQ(publish(entry(1)), ItemStatus::ok);
  EXPECT_EQ(shard_->check_invariants(), "");
}

TEST_F(ShardPublishTest, WhatCameBeforeItsEraIsNotTakenInIt) {
  auto early = entry(1);
  early.meta.era.value += 1;
  EXPECT_EQ(publish(early), ItemStatus::refused);
  ASSERT_TRUE(clear({session_, space_, era_}));
  EXPECT_EQ(publish(early), ItemStatus::refused) << "its node has freed that slot";
  EXPECT_EQ(blocks(), 0u);
}

TEST_F(ShardPublishTest, WantedReplicasAreKeptUpToTheirBound) {
  publish(entry(1));
  for (std::uint32_t node = 2; node <= wire::kMaxReplicas + 1; ++node) {
    register_node(node);
    auto replica = entry(1);
    replica.meta.intent = wire::StoreIntent::replica;
    const bool fits = node <= wire::kMaxReplicas;
    EXPECT_EQ(publish(replica, node), fits ? ItemStatus::ok : ItemStatus::duplicate);
  }
  EXPECT_EQ(look(session_, 9, {1}).locations.size(), wire::kMaxReplicas);
}

// ---- what engines lend

TEST_F(ShardPublishTest, ABlockThatIsLentIsFoundAndNamedWithItsTier) {
  register_lender(2);
  EXPECT_EQ(publish(entry(1), 2), ItemStatus::ok);
  const auto found = look(session_, 9, {1});
  ASSERT_EQ(found.locations.size(), 1u);
  EXPECT_EQ(found.locations[0].tier, Tier::device);
  EXPECT_EQ(found.locations[0].at.node, NodeId{2});
}

TEST_F(ShardPublishTest, ABlockThatIsOnlyLentIsStillWorthKeeping) {
  register_lender(2);
  publish(entry(1), 2);
  EXPECT_EQ(publish(entry(1)), ItemStatus::ok);
  EXPECT_EQ(publish(entry(1), 2), ItemStatus::ok) << "lent beside the kept one";
  EXPECT_EQ(shard_->catalog().counts().replicas, 2u);
}

TEST_F(ShardPublishTest, LentBlocksLeaveRoomForAKeptOneInTheAnswers) {
  for (std::uint32_t node = 2; node <= wire::kMaxReplicas + 1; ++node) {
    register_lender(node);
    const bool fits = node <= wire::kMaxReplicas;
    EXPECT_EQ(publish(entry(1), node), fits ? ItemStatus::ok : ItemStatus::duplicate);
  }
  EXPECT_EQ(publish(entry(1)), ItemStatus::ok);
  const auto found = look(session_, 9, {1});
  ASSERT_EQ(found.locations.size(), wire::kMaxReplicas);
  EXPECT_EQ(found.locations.back().tier, Tier::host);
}

TEST_F(ShardPublishTest, NoPinHoldsWhatIsLent) {
  register_lender(2);
  publish(entry(1), 2);
  look(session_, 9, {1});
  freed({slot(1)}, 2);
  EXPECT_EQ(blocks(), 0u);
  EXPECT_FALSE(has(look(session_, 0, {1}), 0));
  publish(entry(1));
  EXPECT_TRUE(need(1).empty()) << "the pin holds the copy that came later";
}

TEST_F(ShardPublishTest, WhatIsLentGoesWithItsNamespace) {
  register_lender(2);
  publish(entry(1), 2);
  ASSERT_TRUE(clear({session_, space_, era_}));
  shard_->tick(now_);
  const auto frees = shard_->untold_frees(now_);
  ASSERT_EQ(frees.size(), 1u);
  EXPECT_EQ(frees[0].node, NodeId{2});
}

TEST_F(ShardPublishTest, NonsenseIsRefused) {
  auto empty = entry(1);
  empty.length = 0;
  EXPECT_EQ(publish(empty), ItemStatus::refused);
  auto large = entry(1);
  large.length = kSlotBytes + 1;
  EXPECT_EQ(publish(large), ItemStatus::refused);
  auto nameless = entry(1);
  nameless.meta.key = {};
  EXPECT_EQ(publish(nameless), ItemStatus::refused);
  auto future = entry(1);
  future.meta.era = Era{9};
  EXPECT_EQ(publish(future), ItemStatus::refused);
}

TEST_F(ShardPublishTest, ASlotThatIsUsedAgainHoldsNothingElse) {
  publish(entry(1));
  auto reused = entry(2);
  reused.slot = SlotId{1};
  reused.generation = Generation{500};
  EXPECT_EQ(publish(reused), ItemStatus::ok);
  EXPECT_EQ(look(session_, 0, {1}).prefix_blocks, 0u);
  EXPECT_EQ(publish(entry(1)), ItemStatus::refused);  // a late word of its earlier use
  EXPECT_EQ(look(session_, 0, {2}).prefix_blocks, 1u);
}

TEST_F(ShardPublishTest, AnUnregisteredNodeIsDenied) {
  const auto published = shard_->publish({NodeId{9}, Incarnation{1}, {}}, now_);
  EXPECT_EQ(published.error().code, Errc::denied);
  EXPECT_EQ(shard_->publish({NodeId{1}, Incarnation{2}, {}}, now_).error().code, Errc::denied);
}

}  // namespace
}  // namespace membrain::server_test
