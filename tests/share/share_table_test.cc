// Which shared blocks may be read, and what the shard is told of them.
#include "cache/share/share_table.h"

#include <gtest/gtest.h>

#include <array>

namespace membrain {
namespace {

using wire::ItemStatus;
using wire::SlotRef;

constexpr std::size_t kBlockBytes = 4096;

class ShareTableTest : public testing::Test {
 protected:
  ShareTableTest() {
    Layout layout;
    layout.blocks = 8;
    layout.planes.push_back({memory_.data(), kBlockBytes, kBlockBytes});
    layout_ = LayoutGeometry::check(layout).value();
  }
  SharedBlock block(std::uint32_t id) const {
    SharedBlock block;
    block.meta.space = NamespaceId{7};
    block.meta.key = {id + 1, 5};
    block.length = kBlockBytes;
    block.checksum = {id, id};
    block.layout = layout_;
    block.id = id;
    return block;
  }
  /// Shares it, and has the shard say yes.
  SlotRef known(std::uint32_t id) {
    const SlotRef at = asked(id);
    EXPECT_FALSE(table_.settle(at, ItemStatus::ok));
    return at;
  }
  /// Shares it; the shard has been asked.
  SlotRef asked(std::uint32_t id) {
    const SlotRef at = shared(id);
    table_.told(at.slot);
    return at;
  }
  SlotRef shared(std::uint32_t id) {
    const auto entry = table_.add(block(id));
    EXPECT_TRUE(entry) << entry.error().context;
    return {entry->slot, entry->generation};
  }
  static wire::FetchItem asking(std::uint32_t id, const SlotRef& at) {
    wire::FetchItem item;
    item.space = NamespaceId{7};
    item.key = {id + 1, 5};
    item.slot = at.slot;
    item.generation = at.generation;
    item.length = kBlockBytes;
    return item;
  }
  ItemStatus read(const wire::FetchItem& item) {
    const SharedBlock* found = nullptr;
    const ItemStatus status = table_.open_read(item, found);
    EXPECT_EQ(found != nullptr, status == ItemStatus::ok);
    if (found != nullptr) table_.close_read({item.slot, item.generation});
    return status;
  }
  std::vector<SlotRef> take_back(std::uint32_t id) {
    const std::array ids = {id};
    std::vector<SlotRef> known;
    for (const KeyedSlot& slot : table_.take_back(*layout_, ids)) {
      EXPECT_EQ(slot.key, block(id).meta.key);
      known.push_back(slot.at);
    }
    return known;
  }
  bool quiet(std::uint32_t id) {
    const std::array ids = {id};
    return table_.quiet(*layout_, ids);
  }

  std::array<std::byte, 8 * kBlockBytes> memory_{};
  std::shared_ptr<const LayoutGeometry> layout_;
  ShareTable table_;
};

TEST_F(ShareTableTest, ABlockIsReadableUntilItIsTakenBack) {
  const SlotRef at = known(3);
  EXPECT_EQ(read(asking(3, at)), ItemStatus::ok);
  EXPECT_EQ(table_.shared_count(), 1U);
  EXPECT_EQ(take_back(3), std::vector{at});
  EXPECT_EQ(read(asking(3, at)), ItemStatus::stale);
  EXPECT_EQ(table_.shared_count(), 0U);
  EXPECT_EQ(table_.place_count(), 0U);
}

TEST_F(ShareTableTest, NamesRangesAndGenerationsAreChecked) {
  const SlotRef at = known(3);
  wire::FetchItem item = asking(3, at);
  item.key = {9, 9};
  EXPECT_EQ(read(item), ItemStatus::not_found);
  item = asking(3, at);
  item.space = NamespaceId{8};
  EXPECT_EQ(read(item), ItemStatus::not_found);
  item = asking(3, at);
  item.part = 1;
  EXPECT_EQ(read(item), ItemStatus::not_found);
  item = asking(3, at);
  item.length = 0;
  EXPECT_EQ(read(item), ItemStatus::not_found);
  item.offset = 0xffffffff, item.length = 2;
  EXPECT_EQ(read(item), ItemStatus::not_found);
  item = asking(3, at);
  item.offset = kBlockBytes - 1, item.length = 1;
  EXPECT_EQ(read(item), ItemStatus::ok);
  item.generation = Generation{at.generation.value + 1};
  EXPECT_EQ(read(item), ItemStatus::stale);
  item.slot = SlotId{4000};
  EXPECT_EQ(read(item), ItemStatus::stale);
}

TEST_F(ShareTableTest, WhatIsReadIsQuietOnlyWhenTheReadEnds) {
  const SlotRef at = known(3);
  const SharedBlock* found = nullptr;
  ASSERT_EQ(table_.open_read(asking(3, at), found), ItemStatus::ok);
  EXPECT_EQ(take_back(3), std::vector{at});
  EXPECT_FALSE(quiet(3));
  EXPECT_TRUE(quiet(4));
  EXPECT_FALSE(table_.add(block(3))) << "it is still being read";
  EXPECT_TRUE(take_back(3).empty()) << "the shard is told once";
  table_.close_read(at);
  EXPECT_TRUE(quiet(3));
  EXPECT_TRUE(table_.add(block(3)));
}

TEST_F(ShareTableTest, ABlockOfTheEngineIsSharedOnce) {
  shared(3);
  const auto again = table_.add(block(3));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Errc::invalid_argument);
}

TEST_F(ShareTableTest, TheShardIsToldOfWhatItKnowsAlone) {
  shared(1);
  const SlotRef second = asked(2);
  EXPECT_TRUE(take_back(1).empty()) << "it never heard of it";
  EXPECT_TRUE(take_back(2).empty()) << "it may hear of it after the end";
  EXPECT_EQ(table_.place_count(), 1U) << "so that place is not used again yet";
  EXPECT_TRUE(table_.settle(second, ItemStatus::ok)) << "now it is to be told";
  EXPECT_EQ(table_.place_count(), 0U);
}

TEST_F(ShareTableTest, WhatTheShardDoesNotTakeIsNotShared) {
  const SlotRef at = asked(1);
  EXPECT_FALSE(table_.settle(at, ItemStatus::duplicate));
  EXPECT_EQ(read(asking(1, at)), ItemStatus::stale);
  EXPECT_EQ(table_.place_count(), 0U);
}

TEST_F(ShareTableTest, AWordOnAnEarlierUseOfAPlaceIsVoid) {
  const SlotRef first = known(1);
  take_back(1);
  const SlotRef second = asked(2);
  ASSERT_EQ(first.slot, second.slot);
  EXPECT_FALSE(table_.settle(first, ItemStatus::refused));
  table_.drop(first);
  EXPECT_EQ(read(asking(2, second)), ItemStatus::ok);
}

TEST_F(ShareTableTest, WithoutTheShardNothingIsWaitedFor) {
  const SlotRef first = known(1);
  const SlotRef second = asked(2);
  take_back(2);
  table_.unlinked({});
  EXPECT_EQ(table_.place_count(), 1U);
  EXPECT_EQ(read(asking(1, first)), ItemStatus::ok) << "readers need no shard";
  EXPECT_FALSE(table_.settle(second, ItemStatus::ok));
  EXPECT_TRUE(take_back(1).empty()) << "a new connection begins with a report";
}

TEST_F(ShareTableTest, AReportListsWhatIsSharedInPortions) {
  for (std::uint32_t id = 0; id < 5; ++id) shared(id);
  take_back(1);
  SlotId from{};
  std::vector<wire::SlotEntry> entries;
  EXPECT_FALSE(table_.list(from, 3, {}, entries));
  EXPECT_EQ(entries.size(), 3U);
  const SlotRef reported{entries[0].slot, entries[0].generation};
  entries.clear();
  EXPECT_TRUE(table_.list(from, 3, {}, entries));
  EXPECT_EQ(entries.size(), 1U);
  EXPECT_TRUE(take_back(0).empty()) << "asked about, not known yet";
  EXPECT_TRUE(table_.settle(reported, ItemStatus::ok));
}

TEST_F(ShareTableTest, AShardHearsOfItsOwnKeysAlone) {
  const SlotRef low = known(1);
  shared(2);
  const KeyRange others{block(1).meta.key.high + 1, UINT64_MAX};
  SlotId from{};
  std::vector<wire::SlotEntry> entries;
  EXPECT_TRUE(table_.list(from, 3, others, entries));
  EXPECT_TRUE(entries.empty());
  EXPECT_EQ(table_.key_of(low), block(1).meta.key);
  table_.unlinked(others);
  EXPECT_EQ(take_back(1), std::vector{low}) << "the shard that knows it is still there";
  EXPECT_FALSE(table_.key_of(low));
}

TEST_F(ShareTableTest, TheShardsFreesEndTheSharing) {
  const SlotRef at = known(1);
  const SharedBlock* found = nullptr;
  ASSERT_EQ(table_.open_read(at, found), ItemStatus::ok);
  table_.drop(at);
  EXPECT_EQ(read(asking(1, at)), ItemStatus::stale);
  EXPECT_FALSE(quiet(1)) << "the engine waits for that read all the same";
  table_.close_read(at);
  EXPECT_TRUE(quiet(1));
  EXPECT_EQ(table_.place_count(), 0U);
}

}  // namespace
}  // namespace membrain
