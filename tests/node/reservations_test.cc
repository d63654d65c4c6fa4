// Reservations: who has which slot, who has lost it, and how much one may have.
#include "cache/node/reservations.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace membrain {
namespace {

using wire::SlotRef;

constexpr WriterId kAnna{11};
constexpr WriterId kBert{12};
constexpr PeerId kPeer{1};
constexpr PeerId kOther{2};

TimePoint at_second(int second) {
  return TimePoint{} + std::chrono::seconds(second);
}

LentSlot lent(std::uint32_t slot, WriterId writer, PeerId peer = kPeer, int until = 10) {
  LentSlot made;
  made.claim.slot.id = SlotId{slot};
  made.claim.slot.generation = Generation{slot + 100};
  made.claim.slot.slot_bytes = 4096;
  made.writer = writer;
  made.peer = peer;
  made.until = at_second(until);
  return made;
}

SlotRef ref(std::uint32_t slot) {
  return {SlotId{slot}, Generation{slot + 100}};
}

class ReservationsTest : public testing::Test {
 protected:
  /// Slots that come back when `dead` is no more.
  std::size_t orphans_of(WriterId dead) {
    return reservations.take_orphans([&](WriterId writer) { return writer != dead; }).size();
  }
  Reservations reservations{64 * 4096, {.max_slots = 4, .max_bytes = 12 * 4096}};
};

TEST_F(ReservationsTest, AWriterTakesWhatItWasLentOnce) {
  reservations.lend(lent(5, kAnna));
  const auto taken = reservations.take(kAnna, ref(5));
  ASSERT_TRUE(taken);
  EXPECT_FALSE(taken->lost);
  EXPECT_FALSE(reservations.take(kAnna, ref(5)));
  EXPECT_TRUE(reservations.empty());
  EXPECT_EQ(reservations.bytes(), 0u);
}

TEST_F(ReservationsTest, NobodyTakesWhatIsAnothers) {
  reservations.lend(lent(5, kAnna));
  EXPECT_FALSE(reservations.take(kBert, ref(5)));
  EXPECT_FALSE(reservations.take(kAnna, {SlotId{5}, Generation{1}}));
  EXPECT_FALSE(reservations.take(kAnna, ref(6)));
  EXPECT_EQ(reservations.count(), 1u);
}

TEST_F(ReservationsTest, WhatIsOverIsLostButStaysOutOfUse) {
  reservations.lend(lent(1, kAnna, kPeer, 5));
  reservations.lend(lent(2, kAnna, kOther, 15));
  reservations.lose_overdue(at_second(5));
  EXPECT_EQ(reservations.lost_by(kAnna, 9), std::vector{ref(1)});
  reservations.lose(kOther);
  EXPECT_EQ(reservations.lost_by(kAnna, 9), (std::vector{ref(1), ref(2)}));
  EXPECT_EQ(reservations.lost_by(kAnna, 1).size(), 1u);
  EXPECT_TRUE(reservations.lost_by(kBert, 9).empty());
  EXPECT_EQ(reservations.count(), 2u);
  EXPECT_TRUE(reservations.take(kAnna, ref(2))->lost);
}

TEST_F(ReservationsTest, WhatAWriterHasLostIsFreeWhenTheWriterIsNoMore) {
  reservations.lend(lent(1, kAnna));
  reservations.lend(lent(2, kAnna, kOther));
  reservations.lend(lent(3, kBert));
  reservations.lose(kPeer);
  EXPECT_EQ(orphans_of(WriterId{99}), 0u);
  EXPECT_EQ(orphans_of(kAnna), 1u) << "slot 2 is not lost yet";
  EXPECT_EQ(orphans_of(kBert), 1u);
  EXPECT_EQ(reservations.count(), 1u);
}

TEST_F(ReservationsTest, OneWriterHasBoundsAndAllTogetherHave) {
  EXPECT_FALSE(reservations.has_room(kAnna, 13 * 4096));
  EXPECT_TRUE(reservations.has_room(kAnna, 12 * 4096));
  for (std::uint32_t slot = 0; slot < 4; ++slot) reservations.lend(lent(slot, kAnna));
  EXPECT_FALSE(reservations.has_room(kAnna, 1)) << "slots";
  reservations.lose(kPeer);
  EXPECT_FALSE(reservations.has_room(kAnna, 1)) << "what is lost counts";
  EXPECT_TRUE(reservations.has_room(kBert, 12 * 4096));
  EXPECT_TRUE(reservations.take(kAnna, ref(0)));
  EXPECT_TRUE(reservations.has_room(kAnna, 9 * 4096));
  EXPECT_FALSE(reservations.has_room(kAnna, 10 * 4096)) << "bytes";
  for (std::uint32_t slot = 10; slot < 39; ++slot) reservations.lend(lent(slot, WriterId{slot}));
  EXPECT_FALSE(reservations.has_room(kBert, 4096)) << "half of the arena";
}

TEST_F(ReservationsTest, AWriterHasAtMostAQuarterOfASmallArena) {
  const Reservations small(8 * 4096, {});
  EXPECT_TRUE(small.has_room(kAnna, 2 * 4096));
  EXPECT_FALSE(small.has_room(kAnna, 2 * 4096 + 1));
}

}  // namespace
}  // namespace membrain
