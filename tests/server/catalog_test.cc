#include "server/catalog.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "server/lru_leaf_first.h"

namespace membrain {
namespace {

class CatalogTest : public testing::Test {
 protected:
  static BlockName name(std::uint64_t number, std::uint32_t era = 1, std::uint16_t part = 0) {
    return {{number, ~number}, 0, Era{era}, part};
  }
  /// A block with one replica, hung on `parent` (0: none).
  Ref add(std::uint64_t number, std::uint64_t parent = 0, std::uint32_t depth = 0) {
    const Ref ref = catalog_.find_or_add(name(number));
    catalog_.entry(ref).depth = depth;
    if (parent != 0) catalog_.link(ref, name(parent).key);
    catalog_.add_replica(ref, place(number));
    return ref;
  }
  static Catalog::NewReplica place(std::uint64_t number, NodeIndex node = 0) {
    Catalog::NewReplica made;
    made.node = node;
    made.slot = SlotId{static_cast<std::uint32_t>(number)};
    made.generation = Generation{number};
    made.length = 100;
    made.slot_bytes = 4096;
    return made;
  }
  void remove(std::uint64_t number) {
    const Ref ref = catalog_.find(name(number));
    catalog_.remove_replica(catalog_.entry(ref).replicas);
    catalog_.settle(ref);
  }
  void TearDown() override { EXPECT_EQ(catalog_.check_invariants(), ""); }

  Records records_;
  LruLeafFirst policy_{records_};
  Catalog catalog_{records_, policy_, 16, 42};
};

TEST_F(CatalogTest, NamespaceEraAndPartArePartOfTheIdentity) {
  add(1);
  EXPECT_NE(catalog_.find(name(1)), kNoRef);
  EXPECT_EQ(catalog_.find(name(1, 2)), kNoRef);
  EXPECT_EQ(catalog_.find(name(1, 1, 1)), kNoRef);
  BlockName elsewhere = name(1);
  elsewhere.space = 1;
  EXPECT_EQ(catalog_.find(elsewhere), kNoRef);
}

TEST_F(CatalogTest, AnEntryGoesWithItsLastReplica) {
  add(1);
  remove(1);
  EXPECT_EQ(catalog_.find(name(1)), kNoRef);
  EXPECT_EQ(records_.entries.count(), 0u);
  EXPECT_EQ(catalog_.counts().bytes, 0u);
}

TEST_F(CatalogTest, APinnedEntryWithoutReplicasStaysAsAGhostUntilItIsUnpinned) {
  const Ref ref = add(1);
  catalog_.pin(ref);
  remove(1);
  EXPECT_EQ(catalog_.find(name(1)), ref);
  EXPECT_FALSE(catalog_.has_sound(ref));
  EXPECT_EQ(catalog_.counts().blocks, 0u);
  EXPECT_TRUE(catalog_.unpin(ref));
  catalog_.settle(ref);
  EXPECT_EQ(catalog_.find(name(1)), kNoRef);
}

TEST_F(CatalogTest, AParentThatComesAfterItsChildIsFoundByIt) {
  const Ref child = add(2, 1, 1);
  const Ref ghost = catalog_.find(name(1));
  ASSERT_NE(ghost, kNoRef);
  EXPECT_EQ(catalog_.entry(child).parent, ghost);
  EXPECT_EQ(add(1), ghost);
  EXPECT_EQ(catalog_.entry(ghost).children, 1u);
}

TEST_F(CatalogTest, GhostsOfAPromptGoWithItsLastBlock) {
  add(1);
  add(2, 1, 1);
  add(3, 2, 2);
  remove(1);
  remove(2);
  EXPECT_EQ(records_.entries.count(), 3u);
  remove(3);
  EXPECT_EQ(records_.entries.count(), 0u);
}

TEST_F(CatalogTest, NoBlockHangsOnItselfOrInACircle) {
  const Ref self = catalog_.find_or_add(name(7));
  catalog_.entry(self).depth = 1;
  catalog_.link(self, name(7).key);
  catalog_.add_replica(self, place(7));
  EXPECT_EQ(catalog_.entry(self).parent, kNoRef);
  const Ref a = add(1, 2, 5);
  const Ref b = catalog_.find(name(2));
  catalog_.link(b, name(1).key);
  EXPECT_EQ(catalog_.entry(b).parent, kNoRef);
  EXPECT_EQ(catalog_.entry(a).parent, b);
}

TEST_F(CatalogTest, AnUnsoundReplicaIsCountedOutAtOnce) {
  const Ref ref = add(1);
  catalog_.pin(ref);
  catalog_.mark_unsound(catalog_.entry(ref).replicas);
  EXPECT_FALSE(catalog_.has_sound(ref));
  EXPECT_EQ(catalog_.counts().blocks, 0u);
  catalog_.add_replica(ref, place(9, 1));
  EXPECT_TRUE(catalog_.has_sound(ref));
  EXPECT_EQ(catalog_.replica_count(ref), 2u);
  catalog_.remove_replica(catalog_.entry(ref).replicas);
  EXPECT_EQ(catalog_.counts().blocks, 1u);
}

TEST_F(CatalogTest, ReplicasAreFoundBySlot) {
  const Ref ref = add(5);
  EXPECT_EQ(catalog_.replica_at(0, SlotId{5}), catalog_.entry(ref).replicas);
  EXPECT_EQ(catalog_.replica_at(1, SlotId{5}), kNoRef);
  EXPECT_EQ(catalog_.replica_at(0, SlotId{6}), kNoRef);
}

TEST_F(CatalogTest, ReplicasOfANodeAreCounted) {
  const Ref ref = add(5);
  add(6);
  catalog_.add_replica(ref, place(7, 3));
  EXPECT_EQ(catalog_.replicas_of(0), 2u);
  EXPECT_EQ(catalog_.replicas_of(3), 1u);
  EXPECT_EQ(catalog_.replicas_of(2), 0u);
  EXPECT_EQ(catalog_.replicas_of(9), 0u);
  remove(6);
  EXPECT_EQ(catalog_.replicas_of(0), 1u);
}

TEST_F(CatalogTest, BatchesFindWhatSingleProbesFind) {
  for (std::uint64_t i = 1; i <= 1000; ++i) add(i * 2);
  std::vector<BlockName> names;
  for (std::uint64_t i = 0; i < 777; ++i) names.push_back(name(i * 3 + 1));
  std::vector<Ref> found(names.size());
  catalog_.find_all(names, found);
  for (std::size_t i = 0; i < names.size(); ++i) EXPECT_EQ(found[i], catalog_.find(names[i]));
}

double bytes_per_block(const Catalog& catalog, std::uint64_t blocks) {
  return static_cast<double>(catalog.bytes()) / static_cast<double>(blocks);
}

TEST_F(CatalogTest, ABlockOfACatalogThatWasMadeForItsBlocksTakesAtMost118Bytes) {
  for (const std::uint64_t blocks : {49'000UL, 50'000UL, 65'536UL, 98'000UL, 99'000UL}) {
    Records records;
    LruLeafFirst policy(records);
    Catalog sized(records, policy, blocks, 42);
    for (std::uint64_t i = 1; i <= blocks; ++i) {
      sized.add_replica(sized.find_or_add(name(i)), place(i));
    }
    EXPECT_LE(bytes_per_block(sized, blocks), 118) << blocks;
  }
}

TEST_F(CatalogTest, ACatalogThatOutgrowsItsSizeTakesAtMost128BytesABlockAtAnyMoment) {
  for (std::uint64_t i = 1; i <= 120'000; ++i) {
    add(i);
    if (i < 10'000) continue;
    ASSERT_LE(bytes_per_block(catalog_, i), 128) << i;
  }
}

}  // namespace
}  // namespace membrain
