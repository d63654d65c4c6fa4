// Which slots are served, and when they are free again.
#include "cache/node/block_table.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "base/checksum.h"
#include "protocol/seal.h"
#include "tests/node/sealed_blocks.h"

namespace membrain {
namespace {

TEST(BlockTable, FreesASlotThatIsReadOnlyWhenItHasDrained) {
  auto arena = *Arena::anonymous(kMiB);
  NodeCounters counters;
  BlockTable table(*arena, counters);
  const wire::SlotRef at = put(table, 1, 16384);
  wire::FetchItem item;
  item.space = NamespaceId{7};
  item.key = meta_of(1).key;
  item.slot = at.slot;
  item.generation = at.generation;
  item.length = 100;
  std::span<std::byte> bytes;
  ASSERT_EQ(table.open_read(item, bytes), wire::ItemStatus::ok);
  EXPECT_TRUE(table.free(at));
  EXPECT_TRUE(table.free(at)) << "a repeated order is fine";
  EXPECT_EQ(table.pool().used_slots(), 1u);
  std::span<std::byte> other;
  EXPECT_EQ(table.open_read(item, other), wire::ItemStatus::stale);
  EXPECT_TRUE(table.check_invariants());
  table.close_read(at);
  EXPECT_EQ(table.pool().used_slots(), 0u);
  EXPECT_FALSE(table.free(at));
  EXPECT_TRUE(table.check_invariants());
}

TEST(BlockTable, ServesOnlyTheBlockPartAndRangeThatTheSealNames) {
  auto arena = *Arena::anonymous(kMiB);
  NodeCounters counters;
  BlockTable table(*arena, counters);
  const wire::SlotRef at = put(table, 1, 10'000);
  wire::FetchItem good;
  good.space = NamespaceId{7};
  good.key = meta_of(1).key;
  good.slot = at.slot;
  good.generation = at.generation;
  good.offset = 9'000;
  good.length = 1'000;
  const auto status_with = [&](auto change) {
    wire::FetchItem item = good;
    change(item);
    std::span<std::byte> bytes;
    const wire::ItemStatus status = table.open_read(item, bytes);
    if (status == wire::ItemStatus::ok) table.close_read(at);
    return status;
  };
  using wire::ItemStatus;
  EXPECT_EQ(status_with([](wire::FetchItem&) {}), ItemStatus::ok);
  EXPECT_EQ(status_with([](wire::FetchItem& item) { item.length = 1'001; }), ItemStatus::not_found);
  EXPECT_EQ(status_with([](wire::FetchItem& item) { item.length = 0; }), ItemStatus::not_found);
  EXPECT_EQ(status_with([](wire::FetchItem& item) { item.offset = 0xffffffff; }),
            ItemStatus::not_found);
  EXPECT_EQ(status_with([](wire::FetchItem& item) { item.key.low ^= 1; }), ItemStatus::not_found);
  EXPECT_EQ(status_with([](wire::FetchItem& item) { item.part = 1; }), ItemStatus::not_found);
  EXPECT_EQ(status_with([](wire::FetchItem& item) { item.space.value = 8; }),
            ItemStatus::not_found);
  EXPECT_EQ(status_with([](wire::FetchItem& item) { ++item.generation.value; }), ItemStatus::stale);
  EXPECT_EQ(status_with([](wire::FetchItem& item) { ++item.slot.value; }), ItemStatus::stale);
  EXPECT_EQ(status_with([](wire::FetchItem& item) { item.slot.value = 0xffffffff; }),
            ItemStatus::not_found);
}

TEST(BlockTable, KeepsOneSlotPerBlockAndNamesItToTheSecondStore) {
  auto arena = *Arena::anonymous(kMiB);
  NodeCounters counters;
  BlockTable table(*arena, counters);
  const SlotClaim a = *table.claim(16384);
  const SlotClaim b = *table.claim(16384);
  const auto first = table.seal(a, meta_of(1), checksum(a.memory));
  const auto second = table.seal(b, meta_of(1), checksum(b.memory));
  EXPECT_TRUE(first.fresh);
  EXPECT_FALSE(second.fresh);
  EXPECT_EQ(second.at, first.at);
  EXPECT_FALSE(second.published);
  EXPECT_EQ(table.pool().used_slots(), 1u);
  table.settle(first.at, wire::ItemStatus::ok);
  EXPECT_TRUE(table.find(meta_of(1))->published);
  table.settle(first.at, wire::ItemStatus::duplicate);
  EXPECT_FALSE(table.find(meta_of(1)));
  EXPECT_EQ(table.pool().used_slots(), 0u);
  EXPECT_TRUE(table.check_invariants());
}

TEST(BlockTable, NeverServesACorruptSlotAndForgetsIt) {
  auto arena = *Arena::anonymous(kMiB);
  NodeCounters counters;
  BlockTable table(*arena, counters);
  const wire::SlotRef at = put(table, 1, 16384);
  EXPECT_TRUE(table.mark_corrupt(at));
  EXPECT_FALSE(table.mark_corrupt(at));
  EXPECT_FALSE(table.find(meta_of(1)));
  EXPECT_FALSE(read_seal(arena->seal(at.slot), at.slot)) << "others read the arena by its seals";
  EXPECT_TRUE(table.check_invariants());
  const wire::SlotRef better = put(table, 1, 16384);
  table.free_corrupt({});
  EXPECT_EQ(table.pool().used_slots(), 1u);
  EXPECT_EQ(table.find(meta_of(1))->at, better);
  EXPECT_TRUE(table.check_invariants());
}

TEST(BlockTable, ForgetsCorruptSlotsOfAReportedRangeAlone) {
  auto arena = *Arena::anonymous(kMiB);
  NodeCounters counters;
  BlockTable table(*arena, counters);
  for (std::uint64_t key = 1; key <= 3; ++key) {
    EXPECT_TRUE(table.mark_corrupt(put(table, key, 16384)));
  }
  const std::uint64_t high = meta_of(3).key.high;
  table.free_corrupt({high, high});
  EXPECT_EQ(table.pool().used_slots(), 2u);
  EXPECT_TRUE(table.check_invariants());
  table.free_corrupt({});
  EXPECT_EQ(table.pool().used_slots(), 0u);
  EXPECT_TRUE(table.check_invariants());
}

TEST(BlockTable, GivesUpASlotWhoseSealWasWrittenOver) {
  auto arena = *Arena::anonymous(kMiB);
  NodeCounters counters;
  BlockTable table(*arena, counters);
  put(table, 1, 16384);
  const wire::SlotRef at = put(table, 2, 16384);
  arena->seal(at.slot).self_check ^= 1;
  SlotId from{};
  std::vector<wire::SlotEntry> listed;
  EXPECT_TRUE(table.list(from, 100, {}, listed));
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_NE(listed[0].slot, at.slot);
  EXPECT_FALSE(table.find(meta_of(2))) << "else a good copy would be a duplicate";
  EXPECT_TRUE(table.check_invariants());
  table.all_listed({});
  EXPECT_EQ(table.pool().used_slots(), 1u);
}

}  // namespace
}  // namespace membrain
