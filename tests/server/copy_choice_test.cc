#include "server/copy_choice.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/byte_budget.h"

namespace membrain {
namespace {

using std::chrono::seconds;

constexpr TimePoint kNow{std::chrono::hours(1)};

class CopyChoiceTest : public testing::Test {
 protected:
  NodeIndex add(const std::string& host, const std::string& zone, std::uint64_t free_bytes) {
    const NodeIndex index = nodes_.find_or_add(NodeId{next_++});
    Node& node = nodes_[index];
    node.host = host;
    node.zone = zone;
    node.free_bytes = free_bytes;
    node.registered = node.connected = node.reported = true;
    copies_.emplace_back();
    return index;
  }
  Target choose(std::vector<NodeIndex> holders, wire::ZoneRule zones = wire::ZoneRule::any) {
    return choose_target(nodes_, copies_, holders, zones, 1000, kNow);
  }

  Nodes nodes_{seconds(5)};
  std::vector<NodeCopies> copies_;
  std::uint32_t next_ = 1;
};

TEST_F(CopyChoiceTest, TheNodeWithMostRoomTakesIt) {
  const NodeIndex holder = add("a", "", 100'000);
  add("b", "", 10'000);
  const NodeIndex roomy = add("c", "", 50'000);
  EXPECT_EQ(choose({holder}).node, roomy);
}

TEST_F(CopyChoiceTest, AmongEqualsTheOneThatMovesLessTakesIt) {
  const NodeIndex holder = add("a", "", 100'000);
  nodes_[add("b", "", 50'000)].load_bytes = std::uint64_t{4} << 30;
  const NodeIndex idle = add("c", "", 40'000);
  EXPECT_EQ(choose({holder}).node, idle);
}

TEST_F(CopyChoiceTest, AnotherHostGoesBeforeRoom) {
  const NodeIndex holder = add("a", "", 100'000);
  add("a", "", 90'000);
  const NodeIndex elsewhere = add("b", "", 5'000);
  EXPECT_EQ(choose({holder}).node, elsewhere);
}

TEST_F(CopyChoiceTest, AnotherZoneGoesBeforeAnotherHostIfTheRuleSaysSo) {
  const NodeIndex holder = add("a", "x", 100'000);
  const NodeIndex near = add("b", "x", 90'000);
  const NodeIndex far = add("c", "y", 5'000);
  EXPECT_EQ(choose({holder}, wire::ZoneRule::any).node, near);
  EXPECT_EQ(choose({holder}, wire::ZoneRule::spread).node, far);
  EXPECT_EQ(choose({holder, far}, wire::ZoneRule::spread).node, near);
}

TEST_F(CopyChoiceTest, ANodeOfAnotherZoneThatIsBusyIsWaitedFor) {
  const NodeIndex holder = add("a", "x", 100'000);
  const NodeIndex near = add("b", "x", 90'000);
  const NodeIndex far = add("c", "y", 90'000);
  copies_[far].taking = kMostCopiesOfNode;
  EXPECT_EQ(choose({holder}, wire::ZoneRule::spread).choice, Choice::busy);
  EXPECT_EQ(choose({holder}, wire::ZoneRule::any).node, near);
  nodes_[far].free_bytes = 0;  // full is another matter: that may last
  EXPECT_EQ(choose({holder}, wire::ZoneRule::spread).node, near);
}

TEST_F(CopyChoiceTest, WhoHasNoRoomIsFull) {
  const NodeIndex holder = add("a", "", 100'000);
  EXPECT_EQ(choose({holder}).choice, Choice::none);
  const NodeIndex other = add("b", "", 1'999);
  copies_[other].coming_bytes = 1'000;
  EXPECT_EQ(choose({holder}).choice, Choice::full);
  nodes_[other].free_bytes = 2'000;
  EXPECT_EQ(choose({holder}).choice, Choice::made);
  copies_[other].full_until = kNow + seconds(1);
  EXPECT_EQ(choose({holder}).choice, Choice::full);
}

TEST_F(CopyChoiceTest, WhoIsAwayOrReportingTakesNothingAndWhoIsInDoubtNothingNow) {
  const NodeIndex holder = add("a", "", 100'000);
  const NodeIndex other = add("b", "", 100'000);
  nodes_[other].connected = false;
  EXPECT_EQ(choose({holder}).choice, Choice::none);
  nodes_[other].connected = true;
  nodes_[other].reported = false;
  EXPECT_EQ(choose({holder}).choice, Choice::none);
  nodes_[other].reported = true;
  copies_[other].avoid_until = kNow + seconds(1);
  EXPECT_EQ(choose({holder}).choice, Choice::full);
  copies_[other].avoid_until = kNow;
  nodes_[other].tier = Tier::device;  // an engine
  EXPECT_EQ(choose({holder}).choice, Choice::none);
}

TEST_F(CopyChoiceTest, TheHolderThatGivesLeastGives) {
  const NodeIndex first = add("a", "", 0);
  const NodeIndex second = add("b", "", 0);
  const std::vector<NodeIndex> holders{first, second};
  copies_[first].giving = 2;
  copies_[second].giving = 1;
  EXPECT_EQ(choose_giver(nodes_, copies_, holders), second);
  nodes_[second].connected = false;
  EXPECT_EQ(choose_giver(nodes_, copies_, holders), first);
  copies_[first].giving = kMostCopiesOfNode;
  EXPECT_EQ(choose_giver(nodes_, copies_, holders), Nodes::kNoNode);
}

TEST(ByteBudget, LetsThroughItsBytesASecondInPiecesOfAnySize) {
  TimePoint now = kNow;
  ByteBudget budget(1000, now);
  std::uint64_t spent = 0;
  for (int i = 0; i < 1000; ++i) {
    now += std::chrono::milliseconds(10);
    budget.pass(now);
    while (budget.open()) budget.spend(70), spent += 70;
  }
  EXPECT_GE(spent, 9'900u);
  EXPECT_LE(spent, 10'400u);  // and a burst
}

TEST(ByteBudget, WhatIsNotSpentSoonIsLost) {
  ByteBudget budget(1000, kNow);
  budget.pass(kNow + seconds(100));
  std::uint64_t spent = 0;
  while (budget.open()) budget.spend(10), spent += 10;
  EXPECT_EQ(spent, 250u);
}

TEST(ByteBudget, OfNothingIsNeverOpen) {
  ByteBudget budget(0, kNow);
  budget.pass(kNow + seconds(100));
  EXPECT_FALSE(budget.open());
}

}  // namespace
}  // namespace membrain
