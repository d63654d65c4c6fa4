#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "base/clock.h"
#include "cache/client/copy_pool.h"
#include "cache/client/mapped_arena.h"
#include "cache/client/mapped_fetch.h"
#include "cache/client/mapped_view.h"
#include "cache/node/arena.h"

namespace membrain {
namespace {

constexpr NodeId kNode{7};
constexpr NamespaceId kSpace{5};
constexpr std::uint64_t kCapacity = 1 << 20;

std::vector<std::byte> content(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 37 + seed * 101);
  return bytes;
}

/// An arena as its node writes it, and a match of what lies there.
class MappedTest : public ::testing::Test {
 protected:
  MappedTest() : node_(Arena::anonymous(kCapacity, kNode).value()), life_(node_->begin_life()) {
    mapped_ = MappedArena::over(node_->mapping(), nullptr, kNode, life_).value();
    set_ = std::make_shared<ArenaSet>();
    set_->add(mapped_);
    match_ = std::make_shared<Match::State>();
    match_->space = kSpace;
    match_->first = {0};
  }

  /// Seals a block at slot `slot` of the arena; `block` of the match.
  Location keep(std::uint32_t slot, const std::vector<std::byte>& bytes) {
    Location at;
    at.node = kNode;
    at.incarnation = life_;
    at.slot = SlotId{slot};
    at.length = static_cast<std::uint32_t>(bytes.size());
    at.generation = node_->next_generation();
    at.checksum = checksum(bytes);
    std::memcpy(node_->memory(at.slot, at.length).data(), bytes.data(), bytes.size());
    SealContent seal;
    seal.entry.meta.space = kSpace;
    seal.entry.meta.key = key_of(slot);
    seal.entry.slot = at.slot;
    seal.entry.generation = at.generation;
    seal.entry.length = at.length;
    seal.entry.checksum = at.checksum;
    write_seal(node_->seal(at.slot), seal);
    return at;
  }
  /// The match's next block has these replicas.
  void add_block(const BlockKey& key, const std::vector<Location>& replicas) {
    match_->keys.push_back(key);
    match_->there.push_back(!replicas.empty());
    for (const Location& at : replicas) match_->replicas.push_back({at, 0});
    match_->first.push_back(static_cast<std::uint32_t>(match_->replicas.size()));
  }
  [[nodiscard]] static BlockKey key_of(std::uint32_t slot) { return {slot + 1, 99}; }
  [[nodiscard]] static BlockPart name_of(std::uint32_t slot) { return {kSpace, key_of(slot), 0}; }
  /// Copies a part whole.
  [[nodiscard]] bool copies(const BlockPart& name, const Location& at, bool sum = true) {
    into_.assign(at.length, std::byte{0});
    const std::vector<Piece> pieces = {{into_.data(), into_.size()}};
    return copy_part(*mapped_, name, at, 0, Place(std::span<const Piece>(pieces)), sum);
  }

  std::unique_ptr<Arena> node_;
  Incarnation life_;
  std::shared_ptr<const MappedArena> mapped_;
  std::shared_ptr<ArenaSet> set_;
  std::shared_ptr<Match::State> match_;
  std::vector<std::byte> into_;
};

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
    return plan_mapped(*match_, {&item, 1}, set_).has_value();
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

/// A fetch of three blocks: one mapped, one elsewhere, one mapped and damaged.
class MixedFetchTest : public MappedTest {
 protected:
  struct Part {
    std::vector<FetchItem> items;
    TransferOptions options;
    MixedFetch::Reported reported;
  };

  MixedFetchTest() {
    const std::vector<std::byte> bytes = content(5000, 6);
    Location elsewhere = keep(0, bytes);
    add_block(key_of(0), {elsewhere});
    elsewhere.node = NodeId{8};
    add_block(key_of(1), {elsewhere});
    const Location damaged = keep(4, bytes);
    node_->memory(damaged.slot, 1)[0] ^= std::byte{1};
    add_block(key_of(4), {damaged});
    memory_.resize(3 * bytes.size());
    for (std::uint32_t i = 0; i < 3; ++i) {
      items_.emplace_back().block = i;
      items_.back().into = {{memory_.data() + i * bytes.size(), bytes.size()}};
    }
  }
  std::shared_ptr<MixedFetch> fetch() {
    MixedFetch::Job job;
    job.match = match_;
    job.items = items_;
    job.options.timeout = std::chrono::milliseconds(100);
    job.options.on_item = [this](std::size_t item, const ItemOutcome& outcome) {
      told_.emplace_back(item, outcome.ok);
    };
    job.plan = plan_mapped(*match_, items_, set_).value();
    job.clock = &clock_;
    job.checked = [this](auto items, auto options, auto reported) {
      checked_.push_back({std::move(items), std::move(options), std::move(reported)});
    };
    job.reported = [this](Result<TransferReport> report) { report_.emplace(std::move(report)); };
    return std::make_shared<MixedFetch>(std::move(job));
  }
  /// Ends a checked part: each of its items alike.
  void end(std::size_t part, const ItemOutcome& outcome) {
    TransferReport report;
    report.items.assign(checked_[part].items.size(), outcome);
    for (std::size_t i = 0; i < report.items.size(); ++i) {
      checked_[part].options.on_item(i, outcome);
    }
    if (outcome.ok) report.lane_bytes["tcp"] = report.bytes = 5000 * report.items.size();
    checked_[part].reported(std::move(report));
  }

  ManualClock clock_;
  std::vector<std::byte> memory_;
  std::vector<FetchItem> items_;
  std::vector<Part> checked_;
  std::vector<std::pair<std::size_t, bool>> told_;
  std::optional<Result<TransferReport>> report_;
};

TEST_F(MixedFetchTest, ReportsOnceWhatWasCopiedAndWhatWentTheCheckedWay) {
  const auto mixed = fetch();
  mixed->start();
  ASSERT_EQ(checked_.size(), 1u);
  EXPECT_EQ(checked_[0].items.at(0).block, 1u);
  mixed->copy();
  ASSERT_EQ(checked_.size(), 2u) << "what could not be copied goes the checked way";
  EXPECT_EQ(checked_[1].items.at(0).block, 2u);
  EXPECT_FALSE(report_);
  end(1, {.ok = false, .why = Errc::corrupt});
  EXPECT_FALSE(report_);
  end(0, {.ok = true});
  ASSERT_TRUE(report_ && *report_);
  const TransferReport& report = **report_;
  ASSERT_EQ(report.items.size(), 3u);
  EXPECT_TRUE(report.items[0].ok);
  EXPECT_TRUE(report.items[1].ok);
  EXPECT_EQ(report.items[2].why, Errc::corrupt);
  EXPECT_EQ(report.bytes, 10'000u);
  EXPECT_EQ(report.lane_bytes.at("mapped"), 5000u);
  EXPECT_EQ(report.lane_bytes.at("tcp"), 5000u);
  EXPECT_EQ(told_, (std::vector<std::pair<std::size_t, bool>>{{0, true}, {2, false}, {1, true}}));
  const std::vector<std::byte> bytes = content(5000, 6);
  EXPECT_EQ(std::memcmp(memory_.data(), bytes.data(), bytes.size()), 0);
}

TEST_F(MixedFetchTest, FailsWhenACheckedPartDoes) {
  const auto mixed = fetch();
  mixed->copy();
  mixed->start();
  ASSERT_EQ(checked_.size(), 2u);
  checked_[0].reported(fail(Errc::unavailable, "the client is closing"));
  end(1, {.ok = true});
  ASSERT_TRUE(report_);
  ASSERT_FALSE(*report_);
  EXPECT_EQ(report_->error().code, Errc::unavailable);
}

TEST_F(MixedFetchTest, CopiesNothingMoreOnceItIsTakenBack) {
  const auto mixed = fetch();
  mixed->start();
  mixed->cancel();
  mixed->copy();
  ASSERT_EQ(checked_.size(), 1u);
  checked_[0].reported(fail(Errc::cancelled, "the fetch was taken back"));
  ASSERT_TRUE(report_);
  EXPECT_EQ(report_->error().code, Errc::cancelled);
  EXPECT_EQ(memory_, std::vector<std::byte>(memory_.size()));
}

TEST_F(MixedFetchTest, CopiesNothingAfterTheDeadline) {
  const auto mixed = fetch();
  mixed->start();
  clock_.advance(std::chrono::milliseconds(100));
  mixed->copy();
  ASSERT_EQ(checked_.size(), 1u);
  end(0, {.ok = true});
  ASSERT_TRUE(report_ && *report_);
  EXPECT_EQ((*report_)->items[0].why, Errc::timed_out);
  EXPECT_EQ((*report_)->items[2].why, Errc::timed_out);
}

TEST(CopyPool, RunsWhatWasPostedBeforeItStops) {
  std::atomic<int> ran = 0;
  CopyPool pool(2);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(pool.post([&] { ++ran; }));
  pool.stop();
  EXPECT_EQ(ran, 100);
  EXPECT_FALSE(pool.post([] {}));
  CopyPool none(0);
  EXPECT_FALSE(none.post([] {}));
}

}  // namespace
}  // namespace membrain
