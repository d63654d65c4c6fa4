// What a node's next life believes: seals, and slots that are taken over.
#include "cache/node/adoption.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <vector>

#include "base/checksum.h"
#include "cache/node/block_table.h"
#include "protocol/seal.h"
#include "tests/fuzz/repair.h"
#include "tests/node/sealed_blocks.h"

namespace membrain {
namespace {

/// No slot is lent.
void nobody(const SlotClaim&, WriterId) {
  ADD_FAILURE() << "a lent slot";
}

TEST(Seal, SaysWhatWasWrittenInItsOwnPlaceOnly) {
  Seal seal{};
  EXPECT_FALSE(read_seal(seal, SlotId{4}));
  SealContent content;
  content.entry = {meta_of(9), SlotId{4}, Generation{11}, 5000, 8192, {1, 2}};
  content.slab = {3, 1};
  write_seal(seal, content);
  const auto read = read_seal(seal, SlotId{4});
  ASSERT_TRUE(read);
  EXPECT_EQ(read->entry, content.entry);
  EXPECT_EQ(read->slab, content.slab);
  EXPECT_FALSE(read_seal(seal, SlotId{5}));
  clear_seal(seal, Generation{12});
  EXPECT_FALSE(read_seal(seal, SlotId{4}));
  EXPECT_EQ(seal.generation.load(), 12u);
}

TEST(Seal, DoesNotReadWithAnyBitFlipped) {
  SealContent content;
  content.entry = {meta_of(9), SlotId{4}, Generation{11}, 5000, 8192, {1, 2}};
  for (std::size_t bit = 0; bit < (offsetof(Seal, writer) + sizeof(Seal::writer)) * 8; ++bit) {
    Seal seal{};
    write_seal(seal, content);
    reinterpret_cast<unsigned char*>(&seal)[bit / 8] ^= static_cast<unsigned char>(1u << (bit % 8));
    EXPECT_FALSE(read_seal(seal, SlotId{4})) << "bit " << bit;
  }
}

TEST(Seal, IsTornUntilItIsComplete) {
  Seal seal{};
  SealContent content;
  content.entry = {meta_of(9), SlotId{4}, Generation{11}, 5000, 8192, {1, 2}};
  write_seal(seal, content);
  seal.state.store(Seal::writing);
  EXPECT_FALSE(read_seal(seal, SlotId{4}));
}

TEST(Seal, OfASealedSlotWithAWriterIsNoneThoughItsCheckHolds) {
  Seal seal{};
  SealContent content;
  content.entry = {meta_of(9), SlotId{4}, Generation{11}, 5000, 8192, {1, 2}};
  write_seal(seal, content);
  seal.writer = 7;
  fuzz::mend(seal, SlotId{4});
  EXPECT_FALSE(read_seal(seal, SlotId{4})) << "a sealed slot is lent to nobody";
}

TEST(Adoption, TakesOverWhatIsSoundAndFreesTornAndFlippedOnes) {
  auto arena = *Arena::anonymous(8 * kMiB);
  arena->begin_life();
  NodeCounters counters;
  std::vector<wire::SlotRef> slots;
  {
    BlockTable table(*arena, counters);
    for (std::uint64_t key = 1; key <= 40; ++key) {
      slots.push_back(put(table, key, key % 3 == 0 ? 100'000 : 16384));
    }
    static_cast<void>(table.claim(16384));  // a store that the crash cut short
  }
  arena->seal(slots[4].slot).state.store(Seal::writing);
  arena->memory(slots[7].slot, 10)[3] ^= std::byte{1};
  arena->begin_life();
  BlockTable table(*arena, counters);
  Adoption adoption(table, counters, nobody);
  int steps = 1;
  while (!adoption.step(200'000)) ++steps;
  EXPECT_GT(steps, 2);
  EXPECT_EQ(adoption.adopted(), 38u);
  EXPECT_EQ(adoption.torn(), 1u);
  EXPECT_EQ(adoption.damaged(), 1u);
  EXPECT_EQ(table.pool().used_slots(), 38u);
  EXPECT_TRUE(table.check_invariants());
  std::size_t seen = 0;
  table.for_each_sealed([&](const wire::SlotEntry& entry, std::span<const std::byte> bytes) {
    ++seen;
    EXPECT_EQ(checksum(bytes), entry.checksum);
    EXPECT_NE(entry.slot, slots[4].slot);
    EXPECT_NE(entry.slot, slots[7].slot);
  });
  EXPECT_EQ(seen, 38u);
}

TEST(Adoption, OfACopyLeavesTheOriginalAlone) {
  auto arena = *Arena::anonymous(kMiB);
  NodeCounters counters;
  BlockTable table(*arena, counters);
  const wire::SlotRef at = put(table, 1, 16384);
  const auto copy = arena->copy();
  EXPECT_EQ(copy->node(), arena->node());
  arena->memory(at.slot, 1)[0] ^= std::byte{1};
  BlockTable adopted(*copy, counters);
  Adoption adoption(adopted, counters, nobody);
  EXPECT_TRUE(copy->adopted());
  EXPECT_TRUE(adoption.step(kMiB));
  EXPECT_EQ(adoption.adopted(), 1u);
}

TEST(Adoption, NeverRepeatsAGenerationEvenIfTheCounterWasDamaged) {
  auto arena = *Arena::anonymous(8 * kMiB);
  NodeCounters counters;
  {
    BlockTable table(*arena, counters);
    for (std::uint64_t key = 1; key <= 5; ++key) put(table, key, 16384);
  }
  arena->generations().store(0);
  BlockTable table(*arena, counters);
  Adoption adoption(table, counters, nobody);
  while (!adoption.step(1 << 20)) {
  }
  EXPECT_GT(table.claim(16384)->slot.generation.value, 5u);
}

/// Counting on from there would end at generation 0, which a free slot has.
TEST(Adoption, FreesASealWhoseGenerationNobodyCanHaveGiven) {
  auto arena = *Arena::anonymous(kMiB);
  NodeCounters counters;
  wire::SlotRef at;
  {
    BlockTable table(*arena, counters);
    at = put(table, 1, 16384);
  }
  Seal& seal = arena->seal(at.slot);
  seal.generation.store(UINT64_MAX);
  fuzz::mend(seal, at.slot);
  BlockTable table(*arena, counters);
  Adoption adoption(table, counters, nobody);
  EXPECT_TRUE(adoption.step(kMiB));
  EXPECT_EQ(adoption.torn(), 1u);
  EXPECT_EQ(table.claim(16384)->slot.generation.value, 3u);
}

}  // namespace
}  // namespace membrain
