#include "cache/node/arena.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "cache/node/adoption.h"
#include "cache/node/block_table.h"
#include "protocol/seal.h"
#include "tests/fuzz/repair.h"

namespace membrain {
namespace {

/// No slot is lent.
void nobody(const SlotClaim&, WriterId) {
  ADD_FAILURE() << "a lent slot";
}

constexpr std::uint64_t kMiB = 1 << 20;

class ArenaTest : public ::testing::Test {
 protected:
  ArenaTest() {
    std::string path = "/dev/shm/membrain-test-XXXXXX";
    directory_ = ::mkdtemp(path.data());
  }
  ~ArenaTest() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] ArenaConfig config(std::uint64_t capacity = 4 * kMiB) const {
    return {"a", capacity, false, directory_};
  }
  [[nodiscard]] std::string path() const { return directory_ + "/membrain-a"; }

  std::string directory_;
};

TEST_F(ArenaTest, IsAPrivateFileOfTheCapacityWithItsSealsAndNothingWasted) {
  auto arena = Arena::open(config());
  ASSERT_TRUE(arena) << arena.error().context;
  EXPECT_EQ((*arena)->capacity_bytes(), 4 * kMiB);
  EXPECT_EQ((*arena)->seals().size(), 4 * kMiB / kPageBytes);
  EXPECT_TRUE((*arena)->node());
  EXPECT_FALSE((*arena)->adopted());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>((*arena)->seals().data()) % 128, 0u);
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_LE(status.st_blocks * 512, static_cast<blkcnt_t>(4 * kMiB * 11 / 10));
  EXPECT_GE(status.st_blocks * 512, static_cast<blkcnt_t>(4 * kMiB)) << "not reserved";
}

TEST_F(ArenaTest, KeepsItsNodeAndCountsItsLives) {
  NodeId node;
  {
    auto arena = Arena::open(config());
    ASSERT_TRUE(arena);
    node = (*arena)->node();
    EXPECT_EQ((*arena)->begin_life().value, 1u);
    EXPECT_EQ((*arena)->next_generation().value, 1u);
  }
  auto arena = Arena::open(config());
  ASSERT_TRUE(arena) << arena.error().context;
  EXPECT_TRUE((*arena)->adopted());
  EXPECT_EQ((*arena)->node(), node);
  EXPECT_EQ((*arena)->begin_life().value, 2u);
  EXPECT_EQ((*arena)->next_generation().value, 2u);
}

TEST_F(ArenaTest, RefusesASecondNodeOfTheSameNameUntilTheFirstHasGone) {
  auto first = Arena::open(config());
  ASSERT_TRUE(first);
  const auto second = Arena::open(config());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::unavailable);
  ArenaConfig fresh = config();
  fresh.fresh = true;
  EXPECT_EQ(Arena::open(fresh).error().code, Errc::unavailable) << "not even with --fresh";
  first->reset();
  EXPECT_TRUE(Arena::open(config()));
}

TEST_F(ArenaTest, NamesFreshWhenTheCapacityDiffersOrTheHeaderIsDamaged) {
  ASSERT_TRUE(Arena::open(config()));
  const auto larger = Arena::open(config(8 * kMiB));
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.error().code, Errc::invalid_argument);
  EXPECT_NE(larger.error().context.find("--fresh"), std::string_view::npos);
  {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(12);
    file.write("scribble", 8);
  }
  const auto damaged = Arena::open(config());
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, Errc::corrupt);
  EXPECT_NE(damaged.error().context.find("--fresh"), std::string_view::npos);
  ArenaConfig fresh = config();
  fresh.fresh = true;
  const auto renewed = Arena::open(fresh);
  ASSERT_TRUE(renewed) << renewed.error().context;
  EXPECT_FALSE((*renewed)->adopted());
}

TEST_F(ArenaTest, WithCountersThatNoLifeReachesIsDamaged) {
  for (const auto& [at, size] : {std::pair{offsetof(ArenaHeader, generations), 8},
                                 std::pair{offsetof(ArenaHeader, incarnation), 4}}) {
    ArenaConfig fresh = config();
    fresh.fresh = true;
    ASSERT_TRUE(Arena::open(fresh));
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.write("\xff\xff\xff\xff\xff\xff\xff\xff", size);
    file.close();
    EXPECT_EQ(Arena::open(config()).error().code, Errc::corrupt) << at;
  }
}

TEST_F(ArenaTest, StartsAnewWhenItsMakerDiedBeforeItHadFinished) {
  std::ofstream(path()) << std::string(100, '\0');
  const auto arena = Arena::open(config());
  ASSERT_TRUE(arena) << arena.error().context;
  EXPECT_FALSE((*arena)->adopted());
}

TEST_F(ArenaTest, StartsAnewWhenItsMakerDiedAmidItsHeader) {
  const auto without_its_magic = [this] {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offsetof(ArenaHeader, magic));
    file.write("\0\0\0\0\0\0\0\0", 8);
  };
  ASSERT_TRUE(Arena::open(config()));
  without_its_magic();
  {
    const auto arena = Arena::open(config());
    ASSERT_TRUE(arena) << arena.error().context;
    EXPECT_FALSE((*arena)->adopted());
    (*arena)->begin_life();
  }
  without_its_magic();
  EXPECT_EQ(Arena::open(config()).error().code, Errc::corrupt) << "a node has lived in it";
}

TEST_F(ArenaTest, RefusesNoCapacityABadNameAndALinkInItsPlace) {
  EXPECT_EQ(Arena::open(config(0)).error().code, Errc::invalid_argument);
  EXPECT_EQ(Arena::anonymous(0).error().code, Errc::invalid_argument);
  ArenaConfig named = config();
  named.name = "../escape";
  EXPECT_EQ(Arena::open(named).error().code, Errc::invalid_argument);
  std::ofstream(directory_ + "/victim") << "precious";
  ASSERT_EQ(::symlink((directory_ + "/victim").c_str(), path().c_str()), 0);
  EXPECT_EQ(Arena::open(config()).error().code, Errc::denied);
}

TEST_F(ArenaTest, SaysSoWhenSharedMemoryIsFullAndLeavesNothingBehind) {
  const std::string small = directory_ + "/small";
  std::filesystem::create_directory(small);
  if (::mount("none", small.c_str(), "tmpfs", 0, "size=2m") != 0) {
    GTEST_SKIP() << "missing: the right to mount a tmpfs";
  }
  const auto arena = Arena::open({"a", 4 * kMiB, false, small});
  EXPECT_EQ(arena ? Errc::cancelled : arena.error().code, Errc::out_of_capacity);
  EXPECT_TRUE(std::filesystem::is_empty(small));
  const auto fitting = Arena::open({"a", kMiB, false, small});
  EXPECT_TRUE(fitting);
  ::umount2(small.c_str(), MNT_DETACH);
}

// --- Seals and adoption. ---

wire::BlockMeta meta_of(std::uint64_t key) {
  wire::BlockMeta meta;
  meta.space = NamespaceId{7};
  meta.era = Era{1};
  meta.key = {key, ~key};
  meta.depth = 3;
  meta.priority = 2;
  return meta;
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

wire::SlotRef put(BlockTable& table, std::uint64_t key, std::uint32_t length) {
  const Result<SlotClaim> claim = table.claim(length);
  EXPECT_TRUE(claim);
  for (std::size_t i = 0; i < length; ++i) {
    claim->memory[i] = static_cast<std::byte>(i * 7 + key);
  }
  return table.seal(*claim, meta_of(key), checksum(claim->memory)).at;
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
