#include "membrain/kv_cache_manager.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <vector>

namespace membrain {
namespace {

constexpr std::uint32_t kBlocks = 16;

BlockHash hash_of(std::uint64_t number) {
  std::array<std::byte, 32> bytes{};
  std::memcpy(bytes.data(), &number, sizeof number);
  return BlockHash::from(bytes).value();
}

/// Hashes first .. first+count-1.
std::vector<BlockHash> hashes(std::size_t count, std::uint64_t first = 1) {
  std::vector<BlockHash> list;
  for (std::size_t i = 0; i < count; ++i) list.push_back(hash_of(first + i));
  return list;
}

class EnginesCache : public ::testing::Test {
 protected:
  std::vector<std::uint32_t> blocks(std::uint64_t request) const {
    const auto span = manager_.blocks_of(RequestId{request});
    return {span.begin(), span.end()};
  }
  /// Allocates and publishes.
  void compute(std::uint64_t request, const std::vector<BlockHash>& prompt) {
    ASSERT_TRUE(manager_.allocate(RequestId{request}, prompt, prompt.size()));
    ASSERT_TRUE(manager_.publish(RequestId{request}, prompt));
  }

  KvCacheManager manager_ = KvCacheManager::create(kBlocks).value();
};

TEST(KvCacheManager, HasAtLeastOneBlock) {
  EXPECT_EQ(KvCacheManager::create(0).error().code, Errc::invalid_argument);
  EXPECT_EQ(KvCacheManager::create(KvCacheManager::kMaxBlocks + 1).error().code,
            Errc::invalid_argument);
}

TEST_F(EnginesCache, SharesWhatWasPublished) {
  compute(1, hashes(4));
  EXPECT_EQ(manager_.computed_blocks(hashes(6)).local, 4U);
  EXPECT_EQ(manager_.allocate(RequestId{2}, hashes(6), 7).value(), 4U);
  const auto one = blocks(1);
  const auto two = blocks(2);
  ASSERT_EQ(two.size(), 7U);
  EXPECT_TRUE(std::equal(one.begin(), one.end(), two.begin()));
  EXPECT_EQ(manager_.refcount(one[0]), 2U);
  EXPECT_EQ(manager_.refcount(two[6]), 1U);
  EXPECT_EQ(manager_.use().used_blocks, 7U);
}

TEST_F(EnginesCache, WhatIsNotPublishedIsNotShared) {
  ASSERT_TRUE(manager_.allocate(RequestId{1}, hashes(4), 4));
  EXPECT_EQ(manager_.computed_blocks(hashes(4)).local, 0U);
  ASSERT_TRUE(manager_.publish(RequestId{1}, hashes(2)));
  EXPECT_EQ(manager_.computed_blocks(hashes(4)).local, 2U);
}

TEST_F(EnginesCache, CountsTheClustersBlocksBehindItsOwn) {
  compute(1, hashes(4));
  const ComputedBlocks more = manager_.computed_blocks(hashes(8), 7);
  EXPECT_EQ(more.local, 4U);
  EXPECT_EQ(more.remote, 3U);
  EXPECT_EQ(manager_.computed_blocks(hashes(8), 2).remote, 0U);
  EXPECT_EQ(manager_.computed_blocks(hashes(8), 99).remote, 4U) << "no more than was asked for";
}

TEST_F(EnginesCache, KeepsTheContentOfFreeBlocksUntilTheyAreNeeded) {
  compute(1, hashes(4));
  ASSERT_TRUE(manager_.free(RequestId{1}));
  EXPECT_EQ(manager_.use().used_blocks, 0U);
  EXPECT_EQ(manager_.computed_blocks(hashes(4)).local, 4U);
  ASSERT_TRUE(manager_.allocate(RequestId{2}, {}, kBlocks));
  EXPECT_EQ(manager_.computed_blocks(hashes(4)).local, 0U);
  EXPECT_EQ(manager_.use().reused, 4U);
}

TEST_F(EnginesCache, ReusesTheTailOfAPromptFirst) {
  compute(1, hashes(8));
  compute(2, hashes(8, 100));
  ASSERT_TRUE(manager_.free(RequestId{1}));
  ASSERT_TRUE(manager_.free(RequestId{2}));
  ASSERT_TRUE(manager_.allocate(RequestId{3}, {}, 3));
  EXPECT_EQ(manager_.computed_blocks(hashes(8)).local, 5U) << "the older prompt, from its end";
  EXPECT_EQ(manager_.computed_blocks(hashes(8, 100)).local, 8U);
}

TEST_F(EnginesCache, WhatIsUsedAgainIsReusedLast) {
  compute(1, hashes(8));
  compute(2, hashes(8, 100));
  ASSERT_TRUE(manager_.free(RequestId{1}));
  ASSERT_TRUE(manager_.free(RequestId{2}));
  ASSERT_TRUE(manager_.allocate(RequestId{3}, hashes(8), 8));
  ASSERT_TRUE(manager_.free(RequestId{3}));
  ASSERT_TRUE(manager_.allocate(RequestId{4}, {}, 8));
  EXPECT_EQ(manager_.computed_blocks(hashes(8)).local, 8U);
  EXPECT_EQ(manager_.computed_blocks(hashes(8, 100)).local, 0U);
}

TEST_F(EnginesCache, NeverTakesABlockThatIsUsed) {
  compute(1, hashes(10));
  ASSERT_TRUE(manager_.allocate(RequestId{2}, {}, 6));
  const auto full = manager_.allocate(RequestId{3}, {}, 1);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Errc::out_of_capacity);
  EXPECT_TRUE(blocks(3).empty());
  std::set<std::uint32_t> all;
  for (const std::uint64_t request : {std::uint64_t{1}, std::uint64_t{2}}) {
    for (const std::uint32_t block : blocks(request)) EXPECT_TRUE(all.insert(block).second);
  }
  EXPECT_EQ(all.size(), kBlocks);
}

TEST_F(EnginesCache, ARefusedAllocationChangesNothing) {
  compute(1, hashes(8));
  ASSERT_TRUE(manager_.free(RequestId{1}));
  ASSERT_TRUE(manager_.allocate(RequestId{2}, {}, 6));
  EXPECT_FALSE(manager_.allocate(RequestId{3}, hashes(8), 11)) << "2 + 8 that would be shared";
  EXPECT_EQ(manager_.computed_blocks(hashes(8)).local, 8U);
  EXPECT_EQ(manager_.use().used_blocks, 6U);
  EXPECT_FALSE(manager_.allocate(RequestId{2}, {}, 17));
  EXPECT_EQ(blocks(2).size(), 6U);
}

TEST_F(EnginesCache, GrowsARequest) {
  ASSERT_TRUE(manager_.allocate(RequestId{1}, {}, 2));
  const auto before = blocks(1);
  EXPECT_EQ(manager_.allocate(RequestId{1}, hashes(9), 5).value(), 0U);
  const auto after = blocks(1);
  ASSERT_EQ(after.size(), 5U);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin()));
  EXPECT_EQ(manager_.allocate(RequestId{1}, {}, 4).error().code, Errc::invalid_argument);
  EXPECT_EQ(manager_.allocate(RequestId{}, {}, 4).error().code, Errc::invalid_argument);
}

TEST_F(EnginesCache, TwoThatComputedTheSameShareOne) {
  ASSERT_TRUE(manager_.allocate(RequestId{1}, hashes(2), 2));
  ASSERT_TRUE(manager_.allocate(RequestId{2}, hashes(2), 2));
  ASSERT_TRUE(manager_.publish(RequestId{1}, hashes(2)));
  ASSERT_TRUE(manager_.publish(RequestId{2}, hashes(2)));
  ASSERT_TRUE(manager_.allocate(RequestId{3}, hashes(2), 2));
  EXPECT_EQ(blocks(3), blocks(1));
  EXPECT_EQ(manager_.use().named_blocks, 2U);
  ASSERT_TRUE(manager_.free(RequestId{2}));
  EXPECT_EQ(manager_.computed_blocks(hashes(2)).local, 2U);
}

TEST_F(EnginesCache, WrongPublicationsAreRefusedWhole) {
  compute(1, hashes(2));
  ASSERT_TRUE(manager_.allocate(RequestId{1}, {}, 3));
  const std::vector<BlockHash> other = {hash_of(1), hash_of(7), hash_of(8)};
  EXPECT_EQ(manager_.publish(RequestId{1}, other).error().code, Errc::invalid_argument);
  EXPECT_EQ(manager_.computed_blocks(std::vector{hash_of(8)}).local, 0U);
  EXPECT_FALSE(manager_.publish(RequestId{1}, hashes(4))) << "more than it has";
  EXPECT_FALSE(manager_.publish(RequestId{1}, std::vector<BlockHash>{hash_of(1), {}}));
  EXPECT_FALSE(manager_.publish(RequestId{9}, hashes(1)));
}

TEST_F(EnginesCache, ForgetsEverythingAndLetsNobodyBringItBack) {
  compute(1, hashes(4));
  manager_.forget();
  EXPECT_EQ(manager_.computed_blocks(hashes(4)).local, 0U);
  ASSERT_TRUE(manager_.publish(RequestId{1}, hashes(4)));
  EXPECT_EQ(manager_.computed_blocks(hashes(4)).local, 0U) << "computed with the old weights";
  compute(2, hashes(4));
  EXPECT_EQ(manager_.computed_blocks(hashes(4)).local, 4U);
  ASSERT_TRUE(manager_.free(RequestId{1}));
  EXPECT_EQ(manager_.free(RequestId{1}).error().code, Errc::not_found);
}

}  // namespace
}  // namespace membrain
