#include "server/condemned.h"

#include <gtest/gtest.h>

namespace membrain {
namespace {

wire::SlotRef at(std::uint32_t slot, std::uint64_t generation) {
  return {SlotId{slot}, Generation{generation}};
}

TEST(Condemned, SlotsAreRepeatedUntilTheNodeHasAnswered) {
  Condemned condemned;
  condemned.add(at(1, 10), 4096);
  condemned.add(at(2, 11), 4096);
  EXPECT_EQ(condemned.untold(10).size(), 2u);
  EXPECT_TRUE(condemned.untold(10).empty());
  EXPECT_EQ(condemned.repeat(10).size(), 2u);
  EXPECT_TRUE(condemned.freed(at(1, 10)));
  const auto again = condemned.repeat(10);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0], at(2, 11));
}

TEST(Condemned, ARepetitionNamesOthersTheNextTime) {
  Condemned condemned;
  for (std::uint32_t slot = 0; slot < 6; ++slot) condemned.add(at(slot, 1), 4096);
  EXPECT_EQ(condemned.untold(10).size(), 6u);
  const auto first = condemned.repeat(3);
  const auto second = condemned.repeat(3);
  ASSERT_EQ(first.size(), 3u);
  ASSERT_EQ(second.size(), 3u);
  EXPECT_NE(first[0], second[0]);
}

TEST(Condemned, CountsWhatWaitsBySize) {
  Condemned condemned;
  condemned.add(at(1, 1), 4096);
  condemned.add(at(2, 1), 8192);
  condemned.add(at(2, 5), 4096);  // used again, with another size, and condemned again
  EXPECT_EQ(condemned.waiting(4096), 2u);
  EXPECT_EQ(condemned.waiting(8192), 0u);
  EXPECT_FALSE(condemned.freed(at(2, 1)));
  EXPECT_TRUE(condemned.freed(at(2, 5)));
  EXPECT_EQ(condemned.count(), 1u);
}

TEST(Condemned, KnowsEveryUseOfASlotThatIsOver) {
  Condemned condemned;
  EXPECT_FALSE(condemned.knows(at(1, 10)));
  condemned.add(at(1, 10), 4096);
  EXPECT_TRUE(condemned.knows(at(1, 10)));
  EXPECT_TRUE(condemned.knows(at(1, 9)));
  EXPECT_FALSE(condemned.knows(at(1, 11)));
  condemned.freed(at(1, 10));
  EXPECT_TRUE(condemned.knows(at(1, 10)));
  EXPECT_FALSE(condemned.knows(at(1, 11)));
}

TEST(Condemned, RemembersABoundedNumberOfFreedSlots) {
  Condemned condemned;
  for (std::uint32_t slot = 0; slot <= Condemned::kMaxGone; ++slot) condemned.freed(at(slot, 1));
  EXPECT_FALSE(condemned.knows(at(0, 1)));
  EXPECT_TRUE(condemned.knows(at(1, 1)));
}

TEST(Condemned, ForgetsASlotByTheLastWordAboutIt) {
  Condemned condemned;
  condemned.note_gone(at(0, 1));
  for (std::uint32_t slot = 1; slot < Condemned::kMaxGone; ++slot) condemned.note_gone(at(slot, 1));
  condemned.note_gone(at(0, 7));  // the first word is the oldest, this one the youngest
  condemned.note_gone(at(Condemned::kMaxGone, 1));
  EXPECT_TRUE(condemned.knows(at(0, 7)));
  for (std::uint32_t slot = 1; slot < Condemned::kMaxGone; ++slot) condemned.note_gone(at(slot, 2));
  EXPECT_FALSE(condemned.knows(at(0, 7))) << "it is forgotten like others";
}

TEST(Condemned, OneSlotThatIsUsedAgainAndAgainPushesNoOtherOut) {
  Condemned condemned;
  condemned.note_gone(at(1, 1));
  for (std::uint32_t use = 1; use <= 2 * Condemned::kMaxGone; ++use)
    condemned.note_gone(at(0, use));
  EXPECT_TRUE(condemned.knows(at(1, 1)));
}

}  // namespace
}  // namespace membrain
