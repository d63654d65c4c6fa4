#include "protocol/leader_address.h"

#include <gtest/gtest.h>

namespace membrain {
namespace {

TEST(LeaderAddress, ALeaderThatNamesItsHostIsThere) {
  EXPECT_EQ(leader_address("ten:9201", "one:9201"), "ten:9201");
  EXPECT_EQ(leader_address("[fd00::7]:9201", "one:9201"), "[fd00::7]:9201");
  EXPECT_EQ(leader_address("server", "one:9201"), "server");
  EXPECT_EQ(leader_address("", "one:9201"), "");
}

TEST(LeaderAddress, ALeaderThatListensEverywhereIsWhereItWasAsked) {
  EXPECT_EQ(leader_address("0.0.0.0:9203", "one:9201"), "one:9203");
  EXPECT_EQ(leader_address("[::]:9203", "[fd00::7]:9201"), "[fd00::7]:9203");
  EXPECT_EQ(leader_address("0.0.0.0:9203", "one"), "one:9203");
}

}  // namespace
}  // namespace membrain
