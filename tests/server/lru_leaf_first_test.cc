#include "server/lru_leaf_first.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "server/catalog.h"

namespace membrain {
namespace {

class LruLeafFirstTest : public testing::Test {
 protected:
  struct Block {
    std::uint64_t number = 0;
    std::uint64_t parent = 0;
    std::uint32_t depth = 0;
    std::uint8_t priority = 0;
    NodeIndex node = 0;
    std::uint32_t slot_bytes = 4096;
  };
  static BlockName name(std::uint64_t number) { return {{number, 1}, 0, Era{1}, 0}; }
  Ref entry(std::uint64_t number) { return catalog_.find(name(number)); }

  void add(const Block& block) {
    const Ref ref = catalog_.find_or_add(name(block.number));
    catalog_.entry(ref).depth = block.depth;
    catalog_.entry(ref).priority = block.priority;
    catalog_.link(ref, block.parent == 0 ? BlockKey{} : name(block.parent).key);
    Catalog::NewReplica made;
    made.node = block.node;
    made.slot = SlotId{static_cast<std::uint32_t>(block.number)};
    made.generation = Generation{block.number};
    made.length = 1;
    made.slot_bytes = block.slot_bytes;
    catalog_.add_replica(ref, made);
  }
  void add_prompt(std::uint64_t first, std::uint32_t blocks) {
    for (std::uint32_t depth = 0; depth < blocks; ++depth) {
      add({first + depth, depth == 0 ? 0 : first + depth - 1, depth});
    }
  }
  void touch(std::uint64_t number) {
    catalog_.pin(entry(number));
    EXPECT_TRUE(catalog_.unpin(entry(number)));
  }
  /// Evicts one; the number of the block, 0 if none may go.
  std::uint64_t evict(NodeIndex node = 0, std::uint32_t slot_bytes = 4096) {
    const Ref victim = policy_.victim(node, slot_bytes);
    if (victim == kNoRef) return 0;
    const Ref of = catalog_.replica(victim).entry;
    const std::uint64_t number = catalog_.entry(of).key.low;
    catalog_.remove_replica(victim);
    catalog_.settle(of);
    return number;
  }
  std::vector<std::uint64_t> evict_all() {
    std::vector<std::uint64_t> order;
    while (const std::uint64_t number = evict()) order.push_back(number);
    return order;
  }
  void TearDown() override { EXPECT_EQ(catalog_.check_invariants(), ""); }

  Records records_;
  LruLeafFirst policy_{records_};
  Catalog catalog_{records_, policy_, 16, 1};
};

using Order = std::vector<std::uint64_t>;

TEST_F(LruLeafFirstTest, BlocksWithoutPromptsGoInOrderOfLastUse) {
  for (const std::uint64_t number : {1U, 2U, 3U, 4U}) add({number});
  touch(2);
  EXPECT_EQ(evict_all(), (Order{1, 3, 4, 2}));
}

TEST_F(LruLeafFirstTest, APromptGoesFromItsEndToItsBeginning) {
  add_prompt(1, 5);
  EXPECT_EQ(evict_all(), (Order{5, 4, 3, 2, 1}));
}

TEST_F(LruLeafFirstTest, TheColderPromptGoesCompletelyFirst) {
  add_prompt(1, 3);
  add_prompt(11, 3);
  for (const std::uint64_t number : {3U, 2U, 1U}) touch(number);
  EXPECT_EQ(evict_all(), (Order{13, 12, 11, 3, 2, 1}));
}

TEST_F(LruLeafFirstTest, ASharedBeginningOutlivesTheColderBranch) {
  add_prompt(1, 2);
  add({3, 2, 2});
  add({4, 2, 2});
  touch(3), touch(2), touch(1);
  EXPECT_EQ(evict_all(), (Order{4, 3, 2, 1}));
}

TEST_F(LruLeafFirstTest, LowerPrioritiesGoFirst) {
  add({1, 0, 0, 5});
  add({2, 0, 0, 0});
  add({3, 0, 0, 5});
  add({4, 0, 0, 1});
  EXPECT_EQ(evict_all(), (Order{2, 4, 1, 3}));
}

TEST_F(LruLeafFirstTest, PinnedBlocksAreNoVictims) {
  add({1});
  add({2});
  catalog_.pin(entry(1));
  EXPECT_EQ(evict_all(), (Order{2}));
  EXPECT_TRUE(catalog_.unpin(entry(1)));
  EXPECT_EQ(evict_all(), (Order{1}));
}

TEST_F(LruLeafFirstTest, ABlockWithAPinnedChildWaitsAsLongAsAnythingElseCanGo) {
  add_prompt(1, 2);
  catalog_.pin(entry(2));
  add({9});
  EXPECT_EQ(evict(), 9u);
  EXPECT_EQ(evict(), 1u);  // a gap in a prompt is better than a node that takes nothing
  EXPECT_EQ(evict(), 0u);
  EXPECT_TRUE(catalog_.unpin(entry(2)));
  EXPECT_EQ(evict(), 2u);
}

TEST_F(LruLeafFirstTest, NodesAndSizeClassesAreApart) {
  add({.number = 1, .node = 0, .slot_bytes = 4096});
  add({.number = 2, .node = 1, .slot_bytes = 4096});
  add({.number = 3, .node = 0, .slot_bytes = 8192});
  EXPECT_EQ(evict(1, 4096), 2u);
  EXPECT_EQ(evict(1, 8192), 0u);
  EXPECT_EQ(evict(0, 8192), 3u);
  EXPECT_EQ(evict(0, 4096), 1u);
}

TEST_F(LruLeafFirstTest, ChildrenOnAnotherNodeKeepAParentBack) {
  add({.number = 1, .node = 0});
  add({.number = 2, .parent = 1, .depth = 1, .node = 1});
  add({.number = 3, .node = 0});
  EXPECT_EQ(evict(0), 3u);
  EXPECT_EQ(evict(1), 2u);
  EXPECT_EQ(evict(0), 1u);
}

TEST_F(LruLeafFirstTest, RandomTreesNeverLoseAParentBeforeItsChildren) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    std::mt19937_64 random(seed);
    std::map<std::uint64_t, std::uint64_t> parents;
    std::map<std::uint64_t, std::uint32_t> depths;
    std::uint64_t next = seed * 1000;
    for (int step = 0; step < 300; ++step) {
      if (random() % 3 != 0) {
        std::uint64_t parent = 0;
        if (!parents.empty() && random() % 4 != 0) {
          parent =
              std::next(parents.begin(), static_cast<std::ptrdiff_t>(random() % parents.size()))
                  ->first;
        }
        const std::uint32_t depth = parent == 0 ? 0 : depths[parent] + 1;
        add({++next, parent, depth});
        parents[next] = parent;
        depths[next] = depth;
      } else if (const std::uint64_t gone = evict(); gone != 0) {
        parents.erase(gone);
        for (const auto& [number, parent] : parents) ASSERT_NE(parent, gone) << "seed " << seed;
      }
    }
    ASSERT_EQ(catalog_.check_invariants(), "") << "seed " << seed;
    while (evict() != 0) {
    }
  }
}

}  // namespace
}  // namespace membrain
