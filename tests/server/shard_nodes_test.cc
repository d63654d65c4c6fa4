#include <gtest/gtest.h>

#include <random>

#include "tests/server/shard_fixture.h"

namespace membrain::server_test {
namespace {

using Slots = std::vector<wire::SlotRef>;

class ShardNodesTest : public ShardTest {
 protected:
  ShardNodesTest() : session_(open()) { register_node(); }
  SessionId session_;
};

// ---- freeing

TEST_F(ShardNodesTest, VictimsAreNamedUntilTheNodeHasFreedThem) {
  publish_prompt(1, 3);
  EXPECT_EQ(need(2), (Slots{slot(3), slot(2)}));
  EXPECT_EQ(need(2).size(), 2u);  // the same again
  EXPECT_EQ(blocks(), 1u);
  EXPECT_EQ(shard_->repeated_frees(NodeId{1}, now_).items.size(), 2u);
  freed({slot(3), slot(2)});
  EXPECT_TRUE(shard_->repeated_frees(NodeId{1}, now_).items.empty());
  EXPECT_EQ(need(1), (Slots{slot(1)}));
}

TEST_F(ShardNodesTest, ACondemnedSlotIsNotPublishedAgain) {
  publish(entry(1));
  need(1);
  EXPECT_EQ(publish(entry(1)), ItemStatus::refused);
  freed({slot(1)});
  EXPECT_EQ(publish(entry(1)), ItemStatus::refused);
  auto next = entry(1);
  next.generation = Generation{900};
  EXPECT_EQ(publish(next), ItemStatus::ok);
}

TEST_F(ShardNodesTest, PinnedBlocksAreNeverVictims) {
  publish_prompt(1, 3);
  look(session_, 9, {1, 2, 3});
  EXPECT_TRUE(need(3).empty());
  EXPECT_TRUE(need(0, 1, {slot(1), slot(2)}).empty());
  unpin(session_, 9);
  EXPECT_EQ(need(3), (Slots{slot(3), slot(2), slot(1)}));
}

TEST_F(ShardNodesTest, CandidatesAreFreedIfTheyAreWhatTheNodeThinks) {
  publish_prompt(1, 3);
  look(session_, 9, {1});
  auto other = slot(2);
  other.generation = Generation{1};
  EXPECT_EQ(need(0, 1, {slot(1), other, slot(3)}), (Slots{slot(3)}));
}

TEST_F(ShardNodesTest, WhatANodeFreedByItselfIsGone) {
  publish(entry(1));
  look(session_, 9, {1});
  freed({slot(1)});
  EXPECT_EQ(blocks(), 0u);
  EXPECT_EQ(shard_->pin_count(), 1u);
  unpin(session_, 9);
}

TEST_F(ShardNodesTest, AFreedUseOfASlotEndsThoseBeforeItAndNoneAfterIt) {
  publish(entry(1));
  auto earlier = slot(1);
  earlier.generation.value -= 1;
  freed({earlier});
  EXPECT_EQ(blocks(), 1u);
  auto later = slot(1);
  later.generation.value += 1;
  freed({later});
  EXPECT_EQ(blocks(), 0u);
  EXPECT_EQ(publish(entry(1)), ItemStatus::refused) << "an older use of that slot";
}

// ---- corruption

TEST_F(ShardNodesTest, ACorruptReplicaLeavesAllAnswersAndIsFreedWhenUnpinned) {
  publish(entry(1));
  look(session_, 9, {1});
  ASSERT_TRUE(shard_->corrupt({NodeId{1}, Incarnation{1}, slot(1)}, now_));
  ASSERT_TRUE(shard_->corrupt({NodeId{1}, Incarnation{1}, slot(1)}, now_));
  EXPECT_EQ(look(session_, 0, {1}).prefix_blocks, 0u);
  EXPECT_TRUE(shard_->untold_frees(now_).empty());
  unpin(session_, 9);
  const auto frees = shard_->untold_frees(now_);
  ASSERT_EQ(frees.size(), 1u);
  EXPECT_EQ(frees[0].items, (Slots{slot(1)}));
  EXPECT_EQ(shard_->totals().corrupt, 1u);
}

TEST_F(ShardNodesTest, ABlockWhoseOnlyReplicaIsCorruptCanBeStoredAgain) {
  publish(entry(1));
  look(session_, 9, {1});
  ASSERT_TRUE(shard_->corrupt({NodeId{1}, Incarnation{1}, slot(1)}, now_));
  auto again = entry(1);
  again.slot = SlotId{40};
  EXPECT_EQ(publish(again), ItemStatus::ok);
  EXPECT_EQ(look(session_, 0, {1}).prefix_blocks, 1u);
}

// ---- coming and going

TEST_F(ShardNodesTest, ASilentNodesBlocksLeaveAllAnswers) {
  publish_prompt(1, 2);
  look(session_, 9, {1});
  pass(milliseconds(4500), {session_}, {});
  EXPECT_EQ(look(session_, 0, {1, 2}).prefix_blocks, 0u);
  EXPECT_EQ(shard_->pin_count(), 1u);
  EXPECT_EQ(shard_->publish({NodeId{1}, life(1), {}}, now_).error().code, Errc::denied);
  EXPECT_FALSE(shard_->list_nodes(session_, now_)->nodes.at(0).alive);
}

TEST_F(ShardNodesTest, OfSeveralSilentNodesEachBlockLeavesAndOthersStay) {
  register_node(2, 1);
  register_node(3, 1);
  for (std::uint64_t i = 1; i <= 9; ++i) publish(entry(i), static_cast<std::uint32_t>(1 + i % 3));
  pass(milliseconds(4500), {session_}, {2});
  EXPECT_FALSE(shard_->registered(NodeId{1}, life(1)));
  EXPECT_FALSE(shard_->registered(NodeId{3}, life(1)));
  EXPECT_EQ(shard_->catalog().counts().replicas, 3u);
  for (std::uint64_t i = 1; i <= 9; ++i) {
    EXPECT_EQ(look(session_, 0, {i}).prefix_blocks, i % 3 == 1 ? 1u : 0u) << i;
  }
}

TEST_F(ShardNodesTest, ANodeWhoseConnectionBrokeHasAMomentToComeBack) {
  publish_prompt(1, 2);
  shard_->tick(now_);
  shard_->disconnected(NodeId{1});
  shard_->tick(now_ += milliseconds(400));
  EXPECT_EQ(look(session_, 0, {1, 2}).prefix_blocks, 2u);
  shard_->tick(now_ += milliseconds(250));
  EXPECT_EQ(look(session_, 0, {1, 2}).prefix_blocks, 0u);
  register_node(1, 1, false);
  EXPECT_EQ(report_all(1, {entry(2, 1, 1), entry(1)}),
            (std::vector{ItemStatus::ok, ItemStatus::ok}));
  EXPECT_EQ(look(session_, 0, {1, 2}).prefix_blocks, 2u);
}

TEST_F(ShardNodesTest, ANodeThatComesBackBringsPinnedBlocksBack) {
  publish_prompt(1, 2);
  look(session_, 9, {1, 2});
  register_node(1, 2, false);
  EXPECT_EQ(look(session_, 0, {1, 2}).prefix_blocks, 0u);
  EXPECT_EQ(report_all(1, {entry(2, 1, 1), entry(1)}),
            (std::vector{ItemStatus::ok, ItemStatus::ok}));
  EXPECT_EQ(look(session_, 0, {1, 2}).prefix_blocks, 2u);
  EXPECT_TRUE(need(2).empty());
  unpin(session_, 9);
  EXPECT_EQ(need(2), (Slots{slot(2), slot(1)}));
}

TEST_F(ShardNodesTest, NothingOfANodeIsFreedBeforeItsReportIsComplete) {
  publish(entry(1));
  register_node(1, 2, false);
  ASSERT_TRUE(report(1, 0, false, {entry(1)}));
  EXPECT_TRUE(need(1).empty());
  ASSERT_TRUE(report(1, 1, true, {entry(2)}));
  EXPECT_EQ(need(1).size(), 1u);
}

TEST_F(ShardNodesTest, APortionThatComesAgainChangesNothing) {
  register_node(1, 2, false);
  const auto first = report(1, 0, false, {entry(1), entry(2)});
  ASSERT_TRUE(first);
  const auto again = report(1, 0, false, {entry(1), entry(2)});
  ASSERT_TRUE(again);
  EXPECT_EQ(first->statuses, again->statuses);
  EXPECT_EQ(blocks(), 2u);
  EXPECT_FALSE(report(1, 2, true, {}));
  ASSERT_TRUE(report(1, 1, true, {}));
  need(1);
  EXPECT_EQ(report(1, 0, false, {entry(1), entry(2)})->statuses,
            (std::vector{ItemStatus::refused, ItemStatus::ok}));
}

TEST_F(ShardNodesTest, ReportedCopiesOnSeveralNodesAreAllKept) {
  publish(entry(1));
  register_node(2, 1, false);
  EXPECT_EQ(report_all(2, {entry(1)}), (std::vector{ItemStatus::ok}));
  EXPECT_EQ(look(session_, 9, {1}).locations.size(), 2u);
}

TEST_F(ShardNodesTest, ReportedCopiesAreKeptHoweverManyThereAre) {
  constexpr std::uint32_t kNodes = wire::kMaxReplicas + 2;
  for (std::uint32_t node = 2; node <= kNodes; ++node) register_node(node, 1, false);
  publish(entry(1));
  for (std::uint32_t node = 2; node <= kNodes; ++node) {
    EXPECT_EQ(report_all(node, {entry(1)}), (std::vector{ItemStatus::ok}));
  }
  EXPECT_EQ(shard_->catalog().counts().replicas, kNodes);
  EXPECT_EQ(look(session_, 9, {1}).locations.size(), wire::kMaxReplicas);
  EXPECT_EQ(shard_->check_invariants(), "");
}

TEST_F(ShardNodesTest, AnEarlierLifeOfANodeIsRefused) {
  register_node(1, 5);
  wire::RegisterNode request;
  request.node = NodeId{1};
  request.incarnation = Incarnation{4};
  EXPECT_EQ(shard_->register_node(request, now_).error().code, Errc::stale);
}

// ---- a server's restart

TEST_F(ShardNodesTest, AfterARestartNothingIsFreedUntilSessionsHadTimeToComeBack) {
  start();
  EXPECT_TRUE(shard_->in_grace(now_));
  session_ = open();
  register_node(1, 1, false);
  EXPECT_EQ(report_all(1, {entry(1)}), (std::vector{ItemStatus::ok}));
  EXPECT_TRUE(need(1).empty());
  pass(seconds(10), {session_});
  EXPECT_TRUE(need(1).empty());
  pass(seconds(1), {session_});
  EXPECT_EQ(need(1), (Slots{slot(1)}));
}

TEST_F(ShardNodesTest, PinsAssertedBeforeTheReportHoldWhatItBrings) {
  const SessionId before = session_;
  start();
  session_ = hello("default", before);
  ASSERT_TRUE(shard_->open(session_, opening("a model"), now_));
  EXPECT_EQ(look(session_, 9, {1, 2}, wire::LookupRule::all).locations.size(), 0u);
  EXPECT_EQ(shard_->pin_count(), 2u);
  ASSERT_TRUE(shard_->list_nodes(session_, now_));
  register_node(1, 1, false);
  EXPECT_EQ(report_all(1, {entry(1), entry(2, 1, 1), entry(3, 2, 2)}).size(), 3u);
  pass(seconds(11), {session_});
  EXPECT_EQ(need(3), (Slots{slot(3)}));
  unpin(session_, 9);
  EXPECT_EQ(shard_->pin_count(), 0u);
}

TEST_F(ShardNodesTest, BlocksReportedOutOfOrderAreStillEvictedFromTheEnd) {
  register_node(1, 2, false);
  report_all(1, {entry(3, 2, 2), entry(1), entry(4, 3, 3), entry(2, 1, 1)});
  EXPECT_EQ(need(4), (Slots{slot(4), slot(3), slot(2), slot(1)}));
}

TEST_F(ShardNodesTest, ErasOutliveTheServer) {
  ASSERT_TRUE(clear({session_, space_, Era{1}}));
  start();
  session_ = open();
  EXPECT_EQ(era_, Era{2});
  register_node(1, 1, false);
  auto old = entry(1);
  old.meta.era = Era{1};
  EXPECT_EQ(report_all(1, {old}), (std::vector{ItemStatus::ok})) << "somebody may hold it yet";
  EXPECT_FALSE(has(look(session_, 0, {1}), 0));
  pass(seconds(10), {session_});
  EXPECT_EQ(blocks(), 1u);
  EXPECT_FALSE(shard_->sweeping()) << "the tick need not be short until then";
  pass(seconds(1), {session_});
  EXPECT_EQ(blocks(), 0u);
  EXPECT_EQ(need(1), (Slots{slot(1)}));
  freed({slot(1)});
  old.generation = Generation{300};
  register_node(1, 2, false);
  EXPECT_EQ(report_all(1, {old}), (std::vector{ItemStatus::old_era}));
}

TEST_F(ShardNodesTest, WhatIsClearedSoonAfterARestartIsFreedLater) {
  start();
  session_ = open();
  register_node(1, 1, false);
  EXPECT_EQ(report_all(1, {entry(1), entry(2, 1, 1)}).size(), 2u);
  ASSERT_TRUE(has(look(session_, 9, {1}), 0));
  ASSERT_TRUE(clear({session_, space_, Era{1}}));
  pass(seconds(1), {session_});
  EXPECT_EQ(blocks(), 2u);
  unpin(session_, 9);
  EXPECT_EQ(blocks(), 2u) << "another may hold it from the term before";
  pass(seconds(10), {session_});
  EXPECT_EQ(blocks(), 0u);
}

// ---- everything at once

TEST_F(ShardNodesTest, RandomWorkKeepsEveryInvariant) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](std::uint64_t bound) { return random() % bound; };
    start();
    session_ = open();
    std::uint32_t life_of_2 = 1;
    register_node(1), register_node(2);
    std::uint64_t lookup = 1;
    std::uint64_t generation = 1000;
    for (int step = 0; step < 400; ++step) {
      const auto node = static_cast<std::uint32_t>(1 + draw(2));
      const std::uint64_t first = 1 + 10 * draw(4);
      switch (draw(9)) {
        case 0:
        case 1: {
          const std::uint64_t depth = draw(6);
          auto item = entry(first + depth, depth == 0 ? 0 : first + depth - 1,
                            static_cast<std::uint32_t>(depth));
          item.slot = SlotId{static_cast<std::uint32_t>(draw(30))};
          item.generation = Generation{generation++};
          item.meta.priority = static_cast<std::uint8_t>(draw(3));
          item.meta.intent = draw(2) == 0 ? wire::StoreIntent::fresh : wire::StoreIntent::replica;
          publish(item, node);
          break;
        }
        case 2:
        case 3:
          look(session_, lookup++, {first, first + 1, first + 2, first + 3},
               draw(2) == 0 ? wire::LookupRule::prefix : wire::LookupRule::all);
          break;
        case 4:
          unpin(session_, 1 + draw(lookup));
          break;
        case 5:
          freed(need(static_cast<std::uint32_t>(draw(4)), node), node);
          break;
        case 6:
          static_cast<void>(shard_->corrupt(
              {NodeId{node},
               life(node),
               {SlotId{static_cast<std::uint32_t>(draw(30))}, Generation{generation - 1}}},
              now_));
          break;
        case 7:
          if (draw(10) == 0) register_node(2, ++life_of_2);
          if (draw(20) == 0) era_ = clear({session_, space_, era_}).value();
          break;
        default:
          pass(milliseconds(500), {session_}, {1, 2});
      }
      ASSERT_EQ(shard_->check_invariants(), "") << "seed " << seed << " step " << step;
    }
    pass(seconds(12), {}, {1, 2});
    EXPECT_EQ(shard_->pin_count(), 0u);
    while (shard_->sweeping()) shard_->tick(now_);
    for (std::uint32_t node = 1; node <= 2; ++node) {
      for (auto gone = need(100, node); !gone.empty(); gone = need(100, node)) freed(gone, node);
    }
    EXPECT_EQ(shard_->catalog().records().entries.count(), 0u) << "seed " << seed;
  }
}

}  // namespace
}  // namespace membrain::server_test
