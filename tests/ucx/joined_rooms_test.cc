// Rooms for payloads in several pieces: kept for the next, and no more than a bound.
#include "transport/ucx/joined_rooms.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace membrain {
namespace {

TEST(JoinedRooms, AreUsedAgainAndNotGivenForAFewBytes) {
  JoinedRooms rooms;
  EXPECT_FALSE(rooms.take(JoinedRooms::kLeastBytes - 1));
  JoinedRoom room = rooms.take(JoinedRooms::kLeastBytes);
  ASSERT_TRUE(room);
  const std::byte* const memory = room.get();
  rooms.give(std::move(room));
  EXPECT_EQ(rooms.take(JoinedRooms::kRoomBytes).get(), memory);
  const JoinedRoom larger = rooms.take(JoinedRooms::kRoomBytes + 1);
  EXPECT_EQ(larger.bytes(), JoinedRooms::kRoomBytes + 1);
}

TEST(JoinedRooms, AreNoMoreThanTheirBound) {
  JoinedRooms rooms;
  std::vector<JoinedRoom> out;
  while (JoinedRoom room = rooms.take(JoinedRooms::kRoomBytes)) out.push_back(std::move(room));
  EXPECT_EQ(out.size(), JoinedRooms::kMostBytes / JoinedRooms::kRoomBytes);
  EXPECT_FALSE(rooms.take(JoinedRooms::kLeastBytes));
  for (JoinedRoom& room : out) rooms.give(std::move(room));
  EXPECT_TRUE(rooms.take(JoinedRooms::kMostBytes));
}

}  // namespace
}  // namespace membrain
