#include "protocol/shard_map.h"

#include <gtest/gtest.h>

#include <random>

namespace membrain {
namespace {

BlockKey key(std::uint64_t high) {
  return {1, high};
}

TEST(ShardMap, OfOneShardHasEveryKey) {
  const ShardMap map;
  EXPECT_EQ(map.count(), 1u);
  EXPECT_EQ(map.range(0), (KeyRange{0, UINT64_MAX}));
  EXPECT_EQ(map.index_of(key(0)), 0u);
  EXPECT_EQ(map.index_of(key(UINT64_MAX)), 0u);
}

TEST(ShardMap, GivesEveryKeyToTheShardWhoseRangeHasIt) {
  std::mt19937_64 random(1);
  for (const std::size_t count : {2u, 3u, 7u, 64u}) {
    const ShardMap map = ShardMap::equal(count);
    ASSERT_EQ(map.count(), count);
    EXPECT_EQ(map.range(0).first, 0u);
    EXPECT_EQ(map.range(count - 1).last, UINT64_MAX);
    for (int i = 0; i < 1000; ++i) {
      const BlockKey some = key(random());
      EXPECT_TRUE(map.range(map.index_of(some)).has(some));
    }
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(map.index_of(key(map.range(i).first)), i);
      EXPECT_EQ(map.index_of(key(map.range(i).last)), i);
      EXPECT_EQ(map.index_of(map.shard(i)), i);
      if (i > 0) {
        EXPECT_EQ(map.range(i - 1).last + 1, map.range(i).first);
      }
    }
  }
}

TEST(ShardMap, IsTheSameAfterItsTextAndItsMessage) {
  const ShardMap map = ShardMap::equal(5).split(ShardId{2}, ShardId{9}).value();
  EXPECT_EQ(ShardMap::parse(map.text()).value(), map);
  wire::ShardList list;
  list.version = map.version();
  for (std::size_t i = 0; i < map.count(); ++i) {
    list.shards.push_back({map.shard(i), map.range(i).first, "somewhere"});
  }
  EXPECT_EQ(ShardMap::from(list).value(), map);
}

TEST(ShardMap, SplitsARangeInTwoAndLeavesTheOthers) {
  const ShardMap before = ShardMap::equal(2);
  const ShardMap after = before.split(ShardId{0}, ShardId{2}).value();
  EXPECT_EQ(after.version(), before.version() + 1);
  ASSERT_EQ(after.count(), 3u);
  EXPECT_EQ(after.shard(0), ShardId{0});
  EXPECT_EQ(after.shard(1), ShardId{2});
  EXPECT_EQ(after.shard(2), ShardId{1});
  EXPECT_EQ(after.range(2), before.range(1));
  EXPECT_EQ(after.range(1).last, before.range(0).last);
  const std::uint64_t lower = after.range(0).last - after.range(0).first;
  const std::uint64_t upper = after.range(1).last - after.range(1).first;
  EXPECT_LE(lower > upper ? lower - upper : upper - lower, 1u);
}

TEST(ShardMap, RefusesASplitThatMakesNoSense) {
  const ShardMap map = ShardMap::equal(2);
  EXPECT_EQ(map.split(ShardId{7}, ShardId{8}).error().code, Errc::not_found);
  EXPECT_EQ(map.split(ShardId{0}, ShardId{1}).error().code, Errc::invalid_argument);
  EXPECT_EQ(ShardMap::equal(wire::kMaxShards).split(ShardId{0}, ShardId{99}).error().code,
            Errc::out_of_capacity);
  ShardMap narrow;
  Result<ShardMap> next = narrow;
  for (std::uint32_t fresh = 1; fresh < wire::kMaxShards && next; ++fresh) {
    narrow = *next;
    next = narrow.split(ShardId{0}, ShardId{fresh});
    if (next) {
      EXPECT_TRUE(next->range(next->count() - 1).has(key(UINT64_MAX)));
    }
  }
}

TEST(ShardMap, RefusesGapsRepetitionsAndNonsense) {
  const auto read = [](const char* text) { return ShardMap::parse(text).has_value(); };
  EXPECT_TRUE(read("1 0:0"));
  EXPECT_TRUE(read("3 0:0 8000000000000000:1"));
  for (const char* bad :
       {"", "1", "1 ", "x 0:0", "1 5:0", "1 0:0 0:1", "1 0:0 8:0", "1 0:0 8:1 4:2", "1 0:0 8",
        "1 0:0,8:1", "1 0:0 8:1 x", "1 0:-1", "99999999999 0:0", "1 0:0 10000000000000000:1"}) {
    EXPECT_FALSE(read(bad)) << bad;
  }
}

}  // namespace
}  // namespace membrain
