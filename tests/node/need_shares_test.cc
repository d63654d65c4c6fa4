#include "cache/node/need_shares.h"

#include <gtest/gtest.h>

#include <vector>

namespace membrain {
namespace {

constexpr std::uint32_t kSlotBytes = 16384;

std::vector<NeedShare> shares_of(const ShardMap& map) {
  std::vector<NeedShare> shares;
  for (std::size_t i = 0; i < map.count(); ++i) shares.push_back({map.range(i), true});
  return shares;
}

std::optional<BlockKey> no_key(const wire::SlotRef&) {
  return std::nullopt;
}

std::vector<std::uint32_t> counts(std::uint32_t count, const std::vector<NeedShare>& shares,
                                  std::size_t turn = 0) {
  std::vector<std::uint32_t> counts;
  for (const auto& needs : share_needs({{kSlotBytes, count, {}}}, shares, turn, no_key)) {
    counts.push_back(needs.empty() ? 0 : needs.front().count);
    for (const Need& need : needs) EXPECT_EQ(need.slot_bytes, kSlotBytes);
  }
  return counts;
}

using Counts = std::vector<std::uint32_t>;

TEST(NeedShares, OneShardIsAskedForAll) {
  EXPECT_EQ(counts(4096, shares_of(ShardMap::equal(1)), 7), Counts{4096});
}

TEST(NeedShares, ShardsAreAskedByTheWidthOfTheirRanges) {
  const ShardMap map = *ShardMap::equal(2).split(ShardId{1}, ShardId{2});
  EXPECT_EQ(counts(400, shares_of(map)), (Counts{200, 100, 100}));
}

TEST(NeedShares, AnIndivisibleRestGoesToOneAfterTheOther) {
  const auto shares = shares_of(ShardMap::equal(3));
  EXPECT_EQ(counts(1, shares, 0), (Counts{1, 0, 0}));
  EXPECT_EQ(counts(1, shares, 1), (Counts{0, 1, 0}));
  EXPECT_EQ(counts(1, shares, 5), (Counts{0, 0, 1}));
  EXPECT_EQ(counts(8, shares, 2), (Counts{3, 2, 3}));
}

TEST(NeedShares, NothingIsLostOrAddedInTheSharing) {
  for (std::size_t shards = 1; shards <= wire::kMaxShards; ++shards) {
    const auto shares = shares_of(ShardMap::equal(shards));
    for (const std::uint32_t count : {0u, 1u, 63u, 64u, 65u, 1000u, 4096u}) {
      std::uint32_t sum = 0;
      for (const std::uint32_t part : counts(count, shares, shards + count)) sum += part;
      EXPECT_EQ(sum, count) << shards;
    }
  }
}

TEST(NeedShares, AShardThatIsPassedOverIsAskedForNoVictimsOfItsChoice) {
  auto shares = shares_of(ShardMap::equal(3));
  shares[1].counts = false;
  EXPECT_EQ(counts(11, shares, 1), (Counts{5, 0, 6}));
}

TEST(NeedShares, CandidatesGoToTheShardsThatHaveTheirKeys) {
  const ShardMap map = ShardMap::equal(2);
  auto shares = shares_of(map);
  shares[1].counts = false;
  Need need{kSlotBytes, 0, {}};
  for (std::uint32_t slot = 0; slot < 5; ++slot) {
    need.candidates.push_back({SlotId{slot}, Generation{1}});
  }
  const auto key_of = [](const wire::SlotRef& at) -> std::optional<BlockKey> {
    if (at.slot.value == 4) return std::nullopt;
    return BlockKey{1, at.slot.value % 2 == 0 ? 0 : UINT64_MAX};
  };
  const auto asked = share_needs({need}, shares, 0, key_of);
  ASSERT_EQ(asked[0].size(), 1u);
  ASSERT_EQ(asked[1].size(), 1u);
  EXPECT_EQ(asked[0][0].candidates, (std::vector{need.candidates[0], need.candidates[2]}));
  EXPECT_EQ(asked[1][0].candidates, (std::vector{need.candidates[1], need.candidates[3]}));
  shares.pop_back();
  EXPECT_EQ(share_needs({need}, shares, 0, key_of)[0][0].candidates.size(), 2u)
      << "the other shard is away";
}

}  // namespace
}  // namespace membrain
