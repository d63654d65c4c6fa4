#include "cache/node/announcers.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "cache/node/arena.h"
#include "cache/node/block_table.h"

namespace membrain {
namespace {

constexpr std::uint64_t kHalf = std::uint64_t{1} << 63;
constexpr KeyRange kLower{0, kHalf - 1};
constexpr KeyRange kUpper{kHalf, UINT64_MAX};

wire::BlockMeta meta_of(std::uint64_t high) {
  wire::BlockMeta meta;
  meta.space = NamespaceId{7};
  meta.era = Era{1};
  meta.key = {high + 1, high};
  return meta;
}

/// Notes what it is told.
class Told final : public ShardSide {
 public:
  void adopted() override {}
  void portion(LinkId link, std::vector<wire::SlotEntry> entries, bool last) override {
    portions.emplace_back(link, std::move(entries));
    ended = last;
  }
  void publish(LinkId link, std::vector<wire::SlotEntry> entries) override {
    published.emplace_back(link, std::move(entries));
  }
  void need(LinkId, std::vector<Need>) override {}
  void freed(LinkId link, std::vector<wire::SlotRef> slots) override {
    gone.emplace_back(link, std::move(slots));
  }
  void corrupt(LinkId link, wire::SlotRef) override { spoiled.push_back(link); }
  void copied(LinkId, std::vector<wire::CopyEnd>) override {}
  void slots_quiet() override {}

  std::vector<std::pair<LinkId, std::vector<wire::SlotEntry>>> portions;
  std::vector<std::pair<LinkId, std::vector<wire::SlotEntry>>> published;
  std::vector<std::pair<LinkId, std::vector<wire::SlotRef>>> gone;
  std::vector<LinkId> spoiled;
  bool ended = false;
};

class AnnouncersTest : public testing::Test {
 protected:
  AnnouncersTest() { announcers_.open(Door<ShardSide>(loop_, told_)); }

  wire::SlotEntry put(std::uint64_t high) {
    const Result<SlotClaim> claim = table_.claim(4096);
    EXPECT_TRUE(claim);
    wire::SlotEntry entry;
    entry.meta = meta_of(high);
    const wire::SlotRef at = table_.seal(*claim, entry.meta, Checksum{}).at;
    entry.slot = at.slot, entry.generation = at.generation;
    return entry;
  }
  static wire::SlotRef ref(const wire::SlotEntry& entry) { return {entry.slot, entry.generation}; }
  std::vector<KeyRange> accept(LinkId link, const KeyRange& range, std::uint64_t epoch) {
    return announcers_.accepted(link, {Epoch{epoch}, {}, range});
  }
  /// Takes the whole report of that link. Its portions.
  std::size_t report(LinkId link) {
    told_.portions.clear();
    told_.ended = false;
    for (int i = 0; i < 1000 && !told_.ended; ++i) {
      announcers_.give_portion(link);
      loop_.turn();
    }
    EXPECT_TRUE(told_.ended);
    return told_.portions.size();
  }
  [[nodiscard]] std::vector<wire::SlotRef> obeyed(LinkId link, std::uint64_t epoch,
                                                  const std::vector<wire::SlotRef>& slots) {
    return announcers_.obeyed(link, Epoch{epoch}, slots, counters_);
  }

  ManualClock clock_;
  Loop loop_{clock_};
  Told told_;
  NodeCounters counters_;
  std::unique_ptr<Arena> arena_ = *Arena::anonymous(std::uint64_t{128} << 20, NodeId{1});
  BlockTable table_{*arena_, counters_};
  Announcers announcers_{table_};
  const LinkId lower_{ShardId{0}, 1};
  const LinkId upper_{ShardId{1}, 2};
};

TEST_F(AnnouncersTest, WhatIsSealedGoesToTheShardOfItsKey) {
  accept(lower_, kLower, 3);
  accept(upper_, kUpper, 4);
  report(lower_);
  report(upper_);
  const auto a = put(1), b = put(kHalf), c = put(kHalf - 1);
  announcers_.sealed({a, b, c});
  loop_.turn();
  ASSERT_EQ(told_.published.size(), 2u);
  EXPECT_EQ(told_.published[0].first, lower_);
  EXPECT_EQ(told_.published[0].second, (std::vector{a, c}));
  EXPECT_EQ(told_.published[1].first, upper_);
  EXPECT_EQ(told_.published[1].second, std::vector{b});
  announcers_.corrupt(ref(b));
  announcers_.gone({{a.meta.key, ref(a)}, {b.meta.key, ref(b)}});
  loop_.turn();
  EXPECT_EQ(told_.spoiled, std::vector{upper_});
  ASSERT_EQ(told_.gone.size(), 2u);
  EXPECT_EQ(told_.gone[1].second, std::vector{ref(b)});
}

TEST_F(AnnouncersTest, WhatIsSealedBeforeTheReportHasPassedItIsLeftToTheReport) {
  accept(lower_, kLower, 3);
  accept(upper_, kUpper, 4);
  report(lower_);
  const auto a = put(1), b = put(kHalf);
  EXPECT_TRUE(announcers_.passed(a.meta.key, a.slot));
  EXPECT_FALSE(announcers_.passed(b.meta.key, b.slot));
  announcers_.sealed({a, b});
  loop_.turn();
  ASSERT_EQ(told_.published.size(), 1u);
  EXPECT_EQ(report(upper_), 1u);
  EXPECT_EQ(told_.portions[0].second.size(), 1u);
}

TEST_F(AnnouncersTest, AReportLooksAtEverySlotOnceHoweverFewAreInItsRange) {
  constexpr std::uint64_t kSlots = 20'000;
  for (std::uint64_t i = 0; i < kSlots; ++i) put(i % 1000 == 0 ? kHalf + i : i);
  accept(upper_, kUpper, 4);
  EXPECT_EQ(report(upper_), kSlots / SlotList::kMostLooked + 1);
  std::size_t listed = 0;
  for (const auto& [link, entries] : told_.portions) listed += entries.size();
  EXPECT_EQ(listed, kSlots / 1000);
  accept(lower_, kLower, 3);
  EXPECT_LE(report(lower_), kSlots / wire::kMaxPublishItems + 1);
}

TEST_F(AnnouncersTest, AShardIsObeyedOnItsLinkInItsEpochInItsRange) {
  accept(lower_, kLower, 3);
  accept(upper_, kUpper, 4);
  const wire::SlotRef low = ref(put(1)), high = ref(put(kHalf));
  const wire::SlotRef unused{SlotId{30000}, Generation{1}};
  EXPECT_EQ(obeyed(lower_, 3, {high, low, unused}), (std::vector{low, unused}));
  EXPECT_EQ(counters_.fenced_frees, 1u);
  EXPECT_TRUE(obeyed(lower_, 4, {low}).empty()) << "another shard's epoch";
  EXPECT_TRUE(obeyed({ShardId{0}, 7}, 3, {low}).empty()) << "another link";
  EXPECT_EQ(counters_.fenced_frees, 3u);
  accept({ShardId{0}, 8}, kLower, 5);
  EXPECT_TRUE(obeyed(lower_, 3, {low}).empty()) << "the link before";
  EXPECT_EQ(obeyed({ShardId{0}, 8}, 5, {low}), std::vector{low});
  announcers_.lost(upper_);
  EXPECT_TRUE(obeyed(upper_, 4, {high}).empty()) << "a lost link";
}

TEST_F(AnnouncersTest, TwoShardsNeverHaveAKeyAtOnce) {
  EXPECT_TRUE(accept(lower_, {}, 3).empty());
  EXPECT_EQ(accept(upper_, kUpper, 4), std::vector{KeyRange{}})
      << "it was split off: the first one's term is over";
  EXPECT_EQ(announcers_.find(lower_), nullptr);
  EXPECT_EQ(announcers_.of(meta_of(1).key), nullptr);
  EXPECT_TRUE(accept({ShardId{0}, 9}, kLower, 5).empty());
  EXPECT_EQ(announcers_.of(meta_of(1).key)->link(), (LinkId{ShardId{0}, 9}));
  EXPECT_EQ(announcers_.of(meta_of(kHalf).key)->link(), upper_);
}

TEST_F(AnnouncersTest, CorruptSlotsAreForgottenWithTheReportToTheirShard) {
  const wire::SlotRef low = ref(put(1)), high = ref(put(kHalf));
  ASSERT_TRUE(table_.mark_corrupt(low));
  ASSERT_TRUE(table_.mark_corrupt(high));
  accept(lower_, kLower, 3);
  report(lower_);
  EXPECT_FALSE(table_.key_of(low));
  EXPECT_EQ(table_.key_of(high), meta_of(kHalf).key);
}

}  // namespace
}  // namespace membrain
