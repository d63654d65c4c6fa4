#include "server/heat.h"

#include <gtest/gtest.h>

#include <random>

namespace membrain {
namespace {

using std::chrono::seconds;

constexpr TimePoint kStart{std::chrono::hours(1)};

TEST(Heat, CountsLookupsOfABlock) {
  Heat heat;
  EXPECT_EQ(heat.count(7, kStart), 0u);
  for (std::uint32_t i = 1; i <= 5; ++i) EXPECT_EQ(heat.touch(7, kStart), i);
  EXPECT_EQ(heat.count(7, kStart), 5u);
  EXPECT_EQ(heat.count(8, kStart), 0u);
}

TEST(Heat, IsHalvedEverySecond) {
  Heat heat;
  for (int i = 0; i < 64; ++i) heat.touch(7, kStart);
  EXPECT_EQ(heat.count(7, kStart + seconds(1)), 32u);
  EXPECT_EQ(heat.count(7, kStart + seconds(6)), 1u);
  EXPECT_EQ(heat.count(7, kStart + seconds(500)), 0u);
  EXPECT_EQ(heat.touch(7, kStart + seconds(2)), 17u);
}

TEST(Heat, AHotBlockKeepsItsPlaceAmongAMillionColdOnes) {
  Heat heat;
  std::mt19937 random(1);
  for (int i = 0; i < 100; ++i) heat.touch(7, kStart);
  for (int i = 0; i < 1'000'000; ++i)
    heat.touch(1000 + static_cast<Ref>(random() % 10'000'000), kStart);
  EXPECT_EQ(heat.count(7, kStart), 100u);
}

TEST(Heat, ACountDoesNotOverflow) {
  Heat heat;
  for (int i = 0; i < 70'000; ++i) heat.touch(7, kStart);
  EXPECT_EQ(heat.count(7, kStart), 65535u);
}

}  // namespace
}  // namespace membrain
