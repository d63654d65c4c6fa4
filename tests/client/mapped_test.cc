// What is read of an arena that is mapped, and what is not.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "cache/client/mapped_arena.h"
#include "cache/client/mapped_fetch.h"
#include "cache/client/mapped_view.h"
#include "cache/node/block_table.h"
#include "tests/client/mapped_fixture.h"
#include "transport/loop.h"

namespace membrain::mapped_test {
namespace {

TEST_F(MappedTest, ABlockIsCopiedAsItWasSealed) {
  for (const std::size_t size : {1u, 4096u, 5000u, 300'000u}) {
    const std::vector<std::byte> bytes = content(size, 1);
    const Location at = keep(8, bytes);
    ASSERT_TRUE(copies(name_of(8), at, true)) << size;
    EXPECT_EQ(into_, bytes);
    ASSERT_TRUE(copies(name_of(8), at, false)) << size;
    EXPECT_EQ(into_, bytes);
  }
}

TEST_F(MappedTest, ARangeIsCopiedIntoPieces) {
  const std::vector<std::byte> bytes = content(10'000, 2);
  const Location at = keep(3, bytes);
  std::vector<std::byte> one(1000);
  std::vector<std::byte> two(3001);
  const std::vector<Piece> pieces = {
      {one.data(), one.size()}, {nullptr, 0}, {two.data(), two.size()}};
  const Place into{std::span<const Piece>(pieces)};
  ASSERT_TRUE(copy_part(*mapped_, name_of(3), at, 123, into, false));
  EXPECT_EQ(std::memcmp(one.data(), bytes.data() + 123, one.size()), 0);
  EXPECT_EQ(std::memcmp(two.data(), bytes.data() + 1123, two.size()), 0);
  EXPECT_FALSE(copy_part(*mapped_, name_of(3), at, 6000, into, false)) << "past its end";
}

TEST_F(MappedTest, AFlippedBitIsFoundByWhoVerifies) {
  const Location at = keep(0, content(70'000, 3));
  node_->slots()[40'000] ^= std::byte{4};
  EXPECT_FALSE(copies(name_of(0), at, true));
  EXPECT_TRUE(copies(name_of(0), at, false));
}

TEST_F(MappedTest, AFreedSlotIsNotRead) {
  const Location at = keep(2, content(4096, 4));
  clear_seal(node_->seal(at.slot), node_->next_generation());
  EXPECT_FALSE(copies(name_of(2), at));
}

TEST_F(MappedTest, WhatItsNodeFoundCorruptIsNotRead) {
  NodeCounters counters;
  BlockTable table(*node_, counters);
  const SlotClaim claim = table.claim(10'000).value();
  wire::BlockMeta meta;
  meta.space = kSpace;
  meta.key = key_of(0);
  const wire::SlotRef kept = table.seal(claim, meta, checksum(claim.memory)).at;
  const Location at{kNode, life_, kept.slot, 10'000, kept.generation, checksum(claim.memory)};
  std::vector<std::byte> range(100);
  const std::vector<Piece> pieces = {{range.data(), range.size()}};
  const Place into{std::span<const Piece>(pieces)};
  ASSERT_TRUE(copy_part(*mapped_, name_of(0), at, 500, into, false));
  ASSERT_TRUE(table.mark_corrupt(kept));
  EXPECT_FALSE(mapped_->holds(name_of(0), at));
  EXPECT_FALSE(copy_part(*mapped_, name_of(0), at, 500, into, false)) << "no range is ever hashed";
}

TEST_F(MappedTest, ATornSealIsNotRead) {
  const Location at = keep(2, content(4096, 4));
  node_->seal(at.slot).state.store(Seal::writing);
  EXPECT_FALSE(copies(name_of(2), at));
}

TEST_F(MappedTest, ASlotInItsNextUseIsNotRead) {
  const Location old = keep(2, content(4096, 4));
  const Location now = keep(2, content(4096, 5));
  EXPECT_FALSE(copies(name_of(2), old, false));
  EXPECT_TRUE(copies(name_of(2), now));
}

TEST_F(MappedTest, AnotherBlockThanTheOneThatIsMeantIsNotRead) {
  const Location at = keep(2, content(4096, 4));
  EXPECT_FALSE(copies({NamespaceId{6}, key_of(2), 0}, at));
  EXPECT_FALSE(copies({kSpace, key_of(3), 0}, at));
  EXPECT_FALSE(copies({kSpace, key_of(2), 1}, at));
  Location longer = at;
  longer.length = 5000;
  EXPECT_FALSE(copies(name_of(2), longer));
  Location elsewhere = at;
  elsewhere.node = NodeId{8};
  EXPECT_FALSE(copies(name_of(2), elsewhere));
}

TEST_F(MappedTest, APlaceOutsideTheArenaIsNotRead) {
  Location at = keep(2, content(4096, 4));
  at.slot = SlotId{static_cast<std::uint32_t>(kCapacity / kPageBytes)};
  EXPECT_FALSE(copies(name_of(2), at));
  at.slot = SlotId{0xffffffff};
  EXPECT_FALSE(copies(name_of(2), at));
  at.slot = SlotId{static_cast<std::uint32_t>(kCapacity / kPageBytes - 1)};
  at.length = 4097;
  EXPECT_FALSE(copies(name_of(2), at));
  mapped_->prefetch(Location{kNode, life_, SlotId{0xffffffff}, 1, {}, {}});
}

TEST_F(MappedTest, AnotherLifeOfTheNodeIsNotRead) {
  const Location at = keep(2, content(4096, 4));
  Location next = at;
  next.incarnation = Incarnation{life_.value + 1};
  EXPECT_FALSE(copies(name_of(2), next));
  node_->begin_life();
  EXPECT_FALSE(copies(name_of(2), at)) << "the mapping is of the life before";
}

TEST_F(MappedTest, AChangeDuringTheCopyIsNoticed) {
  const Location at = keep(2, content(4096, 4));
  ASSERT_TRUE(mapped_->holds(name_of(2), at));
  EXPECT_TRUE(mapped_->still_holds(at));
  clear_seal(node_->seal(at.slot), node_->next_generation());
  EXPECT_FALSE(mapped_->still_holds(at));
  keep(2, content(4096, 5));
  EXPECT_FALSE(mapped_->still_holds(at)) << "sealed again, but in another generation";
}

TEST_F(MappedTest, ALifeThatBeginsDuringTheCopyIsNoticed) {
  const Location at = keep(2, content(4096, 4));
  ASSERT_TRUE(mapped_->holds(name_of(2), at));
  node_->begin_life();
  EXPECT_FALSE(mapped_->still_holds(at));
}

TEST_F(MappedTest, OnlyTheArenaThatIsMeantIsMapped) {
  const auto code = [&](NodeId node, Incarnation life) {
    return MappedArena::over(node_->mapping(), nullptr, node, life).error().code;
  };
  EXPECT_EQ(code(NodeId{8}, life_), Errc::stale);
  EXPECT_EQ(code(kNode, Incarnation{9}), Errc::stale);
  for (const std::size_t byte : {0u, 8u, 12u, 16u, 24u, 32u, 40u}) {
    const std::unique_ptr<Arena> twin = node_->copy();
    auto* header = const_cast<std::byte*>(twin->mapping().data());
    header[byte] ^= std::byte{1};
    EXPECT_EQ(MappedArena::over(twin->mapping(), nullptr, kNode, life_).error().code, Errc::corrupt)
        << byte;
  }
  EXPECT_EQ(
      MappedArena::over(node_->mapping().first(node_->mapping().size() / 2), nullptr, kNode, life_)
          .error()
          .code,
      Errc::corrupt)
      << "cut short";
}

TEST_F(MappedTest, APlanTakesWhatIsMappedAndLeavesTheRest) {
  const Location here = keep(0, content(100, 1));
  Location there = here;
  there.node = NodeId{8};
  Location earlier = here;
  earlier.incarnation = Incarnation{life_.value - 1};
  add_block(key_of(0), {there, here});
  add_block(key_of(1), {there});
  add_block(key_of(2), {});
  add_block(key_of(3), {earlier});
  std::vector<std::byte> memory(100);
  std::vector<FetchItem> items(4);
  for (std::uint32_t i = 0; i < 4; ++i) items[i].block = i;
  for (const std::size_t i : {0u, 1u, 3u}) items[i].into = {{memory.data(), memory.size()}};
  const auto plan = plan_mapped(*match_, items, set_);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->mapped.size(), 1u);
  EXPECT_EQ(plan->mapped[0].item, 0u);
  EXPECT_EQ(*plan->mapped[0].at, here);
  EXPECT_EQ(plan->rest, (std::vector<std::uint32_t>{1, 2, 3}));
}

TEST_F(MappedTest, AFetchThatIsNotSoundIsLeftToTheCheckedWay) {
  add_block(key_of(0), {keep(0, content(100, 1))});
  std::vector<std::byte> memory(200);
  const auto planned = [&](FetchItem item) {
    return plan_mapped(*match_, FetchList({&item, 1}), set_).has_value();
  };
  FetchItem good;
  good.into = {{memory.data(), 100}};
  EXPECT_TRUE(planned(good));
  FetchItem bad = good;
  bad.block = 1;
  EXPECT_FALSE(planned(bad));
  bad = good;
  bad.part = 1;
  EXPECT_FALSE(planned(bad));
  bad = good;
  bad.offset = 100;
  EXPECT_FALSE(planned(bad));
  bad = good;
  bad.into = {{memory.data(), 101}};
  EXPECT_FALSE(planned(bad));
  bad.into = {{memory.data(), 99}};
  EXPECT_FALSE(planned(bad));
  bad.into = {{nullptr, 100}};
  EXPECT_FALSE(planned(bad));
  match_->probe = true;
  EXPECT_FALSE(planned(good));
}

/// Hands out what it was given, once, and keeps nothing.
class OpenerOnce final : public ArenaOpener {
 public:
  explicit OpenerOnce(std::map<NodeId, std::shared_ptr<const MappedArena>> arenas)
      : arenas_(std::move(arenas)) {}
  Task<Result<std::shared_ptr<const MappedArena>>> open(wire::NodeEntry node, TimePoint) override {
    co_return std::move(arenas_.at(node.node));
  }

 private:
  std::map<NodeId, std::shared_ptr<const MappedArena>> arenas_;
};

/// With the lock held it would wait for itself here, as every fetch would for it.
TEST_F(MappedTest, AnArenaIsUnmappedWithoutTheLockThatFetchesTake) {
  constexpr NodeId kOther{8};
  const auto other = Arena::anonymous(kCapacity, kOther).value();
  const Incarnation life = other->begin_life();
  ManualClock clock;
  Loop loop(clock);
  std::optional<MappedNodes> nodes;
  bool unmapped = false;
  std::shared_ptr<const void> owner(&clock, [&](const void*) {
    const auto left = nodes->arenas();
    unmapped = left != nullptr && left->find(kOther) != nullptr && left->find(kNode) == nullptr;
  });
  std::map<NodeId, std::shared_ptr<const MappedArena>> arenas;
  arenas[kNode] = MappedArena::over(node_->mapping(), std::move(owner), kNode, life_).value();
  arenas[kOther] = MappedArena::over(other->mapping(), nullptr, kOther, life).value();
  nodes.emplace(loop, std::make_unique<OpenerOnce>(std::move(arenas)), "here");
  std::vector<wire::NodeEntry> entries(2);
  entries[0].node = kOther;
  entries[1].node = kNode;
  for (wire::NodeEntry& entry : entries) {
    entry.incarnation = entry.node == kNode ? life_ : life;
    entry.alive = true;
    entry.host = "here";
    entry.door = "a door";
  }
  nodes->update(entries);
  ASSERT_NE(nodes->arenas()->find(kNode), nullptr);
  entries.pop_back();
  nodes->update(entries);
  EXPECT_TRUE(unmapped);
}

class ViewTest : public MappedTest {
 protected:
  ViewTest() : bytes_(content(9000, 8)), at_(keep(4, bytes_)) { add_block(key_of(4), {at_}); }

  Result<std::vector<View>> views(FetchItem item, bool verify = true) {
    return view_mapped(*match_, {&item, 1}, *set_, verify);
  }
  View view(bool verify = true) { return views({}, verify).value().at(0); }

  const std::vector<std::byte> bytes_;
  const Location at_;
};

TEST_F(ViewTest, ShowsTheBlockWhereItLies) {
  const View whole = view();
  EXPECT_EQ(whole.bytes().data(), node_->memory(at_.slot, 1).data());
  EXPECT_TRUE(std::ranges::equal(whole.bytes(), bytes_));
  EXPECT_TRUE(whole.finish());
  FetchItem range;
  range.offset = 100;
  range.length = 50;
  const View part = views(range).value().at(0);
  EXPECT_TRUE(std::ranges::equal(part.bytes(), std::span(bytes_).subspan(100, 50)));
  EXPECT_TRUE(part.finish());
}

TEST_F(ViewTest, FinishSaysThatTheSlotHasChanged) {
  const View held = view();
  clear_seal(node_->seal(at_.slot), node_->next_generation());
  EXPECT_EQ(held.finish().error().code, Errc::stale);
  EXPECT_EQ(views({}).error().code, Errc::unavailable) << "a new one is not to be had";
}

TEST_F(ViewTest, FinishSaysThatTheNodeBeganAnotherLife) {
  const View held = view();
  node_->begin_life();
  EXPECT_EQ(held.finish().error().code, Errc::stale);
}

TEST_F(ViewTest, FinishFindsAFlippedBitUnlessThatIsDeclined) {
  const View verified = view(true);
  const View declined = view(false);
  FetchItem elsewhere;
  elsewhere.length = 10;
  const View range = views(elsewhere).value().at(0);
  node_->memory(at_.slot, at_.length)[8999] ^= std::byte{1};
  EXPECT_EQ(verified.finish().error().code, Errc::corrupt);
  EXPECT_EQ(range.finish().error().code, Errc::corrupt) << "of the part, not only of its range";
  EXPECT_TRUE(declined.finish());
}

TEST_F(ViewTest, KeepsTheMemoryWhenTheClientHasForgottenTheArena) {
  const View held = view();
  const std::weak_ptr<const MappedArena> arena = mapped_;
  mapped_.reset();
  set_.reset();
  EXPECT_FALSE(arena.expired());
  EXPECT_TRUE(held.finish());
}

TEST_F(ViewTest, OfWhatIsNotMappedThereIsNone) {
  Location elsewhere = at_;
  elsewhere.node = NodeId{8};
  add_block(key_of(5), {elsewhere});
  add_block(key_of(6), {});
  FetchItem item;
  item.block = 1;
  EXPECT_EQ(views(item).error().code, Errc::unavailable);
  item.block = 2;
  EXPECT_EQ(views(item).error().code, Errc::not_found);
  item.block = 3;
  EXPECT_EQ(views(item).error().code, Errc::invalid_argument);
  item = {};
  item.offset = 9000;
  EXPECT_EQ(views(item).error().code, Errc::invalid_argument);
  EXPECT_EQ(View().finish().error().code, Errc::invalid_argument);
  match_->released = true;
  EXPECT_EQ(views({}).error().code, Errc::invalid_argument);
}

}  // namespace
}  // namespace membrain::mapped_test
