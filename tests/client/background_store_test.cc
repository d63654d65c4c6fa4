// Stores that nobody waits for: bounded, in order, behind fetches, and given back in the end.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/client/fake_cluster.h"

namespace membrain::client_test {
namespace {

using Mood = FakeNode::Mood;

constexpr std::size_t kMiB = std::size_t{1} << 20;

class Background : public ClientTest {
 protected:
  Background() {
    config_.background_store_bytes = 8 * kMiB;
    shard_.nodes = {&node1_};
  }
  StoreItem block(unsigned number, std::size_t size) {
    StoreItem item;
    item.hash = hash_of(number);
    memory_.push_back(content(size, number));
    item.from = {{memory_.back().data(), size}};
    return item;
  }
  /// Offers one block; its number of offer, or why not. How it ended will be in `ended_`.
  Result<std::uint64_t> offer(StoreList list) {
    StoreOffer made;
    made.space = space_;
    made.list = std::move(list);
    const std::size_t at = ended_.size() + waiting_++;
    made.done = [this, at](const TransferReport& report) {
      --waiting_;
      order_.push_back(at);
      ended_.push_back(report);
    };
    if (const Result<> admitted = core_->background().admit(made); !admitted) {
      --waiting_;
      return fail(admitted.error());
    }
    const std::uint64_t id = made.id;
    core_->background().take(std::move(made));
    return id;
  }
  void settle() {
    step_until([&] { return waiting_ == 0; });
  }
  BackgroundStats stats() { return core_->background().stats(); }

  std::list<std::vector<std::byte>> memory_;
  std::size_t waiting_ = 0;
  std::vector<std::size_t> order_;  ///< offers, as they ended
  std::vector<TransferReport> ended_;
};

TEST_F(Background, StoresInTheOrderOfTheOffers) {
  begin();
  for (unsigned number = 0; number < 5; ++number) {
    ASSERT_TRUE(offer({block(number, kMiB), block(100 + number, 1000)}));
  }
  EXPECT_TRUE(node1_.stores.empty()) << "it returns before anything moves";
  EXPECT_EQ(stats().queued_items, 10U);
  settle();
  EXPECT_EQ(order_, (std::vector<std::size_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(node1_.stored.size(), 10U);
  EXPECT_EQ(stats().stored, 10U);
  EXPECT_EQ(stats().queued_items + stats().queued_bytes, 0U);
  for (const TransferReport& report : ended_) EXPECT_EQ(report.ok_count(), 2U);
  EXPECT_EQ(ended_[0].bytes, kMiB + 1000);
}

TEST_F(Background, WhatDoesNotFitIsShedAtOnceAndCounted) {
  begin();
  node1_.mood = Mood::hang;
  for (unsigned number = 0; number < 8; ++number) ASSERT_TRUE(offer({block(number, kMiB)}));
  EXPECT_EQ(offer({block(9, 1)}).error().code, Errc::out_of_capacity);
  EXPECT_EQ(stats().shed, 1U);
  EXPECT_EQ(stats().queued_bytes, 8 * kMiB);
  run_for(milliseconds(10));
  node1_.mood = Mood::serve;
  settle();
  EXPECT_TRUE(offer({block(9, 1)})) << "there is room again";
  settle();
}

TEST_F(Background, TooManyBlocksAreShedToo) {
  begin();
  const StoreItem item = block(1, 1);
  EXPECT_FALSE(offer(std::vector<StoreItem>(BackgroundStore::kMaxItems + 1, item)));
  EXPECT_EQ(stats().shed, BackgroundStore::kMaxItems + 1);
}

TEST_F(Background, ALargeOfferGoesInChunks) {
  begin();
  std::vector<StoreItem> items;
  for (unsigned number = 0; number < 7; ++number) items.push_back(block(number, kMiB));
  ASSERT_TRUE(offer(items));
  node1_.mood = Mood::hang;
  step_until([&] { return node1_.stores.size() >= 2; });
  run_for(milliseconds(100));
  EXPECT_EQ(node1_.stores.size(), 2U) << "one chunk of 2 MiB at a time";
  settle();
  EXPECT_EQ(stats().failed, 7U) << "each chunk runs into its own deadline";
}

TEST_F(Background, WhatIsThereIsADuplicate) {
  begin();
  publish(1, 1000, {&node1_});
  ASSERT_TRUE(offer({block(1, kMiB)}));
  settle();
  EXPECT_EQ(stats().duplicates, 1U);
  EXPECT_TRUE(node1_.stores.empty());
}

TEST_F(Background, StandsAsideWhileFetchesAreUnderWayButNotForEver) {
  begin();
  const std::vector<std::byte> bytes = publish(1, kMiB, {&node1_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(kMiB);
  std::optional<Result<TransferReport>> fetched;
  TransferOptions options;
  options.timeout = milliseconds(200);
  node1_.mood = Mood::hang;
  data_loop_.spawn(put_into(
      core_->fetch(match.state(), std::vector<FetchItem>{whole(0, into)}, options, nullptr),
      fetched));
  step_until([&] { return !node1_.fetches.empty(); });
  const TimePoint before = clock_.now();
  ASSERT_TRUE(offer({block(2, 1000)}));
  step_until([&] { return !node1_.stores.empty(); });
  EXPECT_GE(clock_.now() - before, BackgroundStore::kStandAside);
  EXPECT_FALSE(fetched.has_value());
  step_until([&] { return fetched.has_value(); });
  settle();
}

TEST_F(Background, GoesOnAtOnceWhenTheFetchHasEnded) {
  begin();
  publish(1, 1000, {&node1_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(1000);
  std::optional<Result<TransferReport>> fetched;
  data_loop_.spawn(put_into(
      core_->fetch(match.state(), std::vector<FetchItem>{whole(0, into)}, {}, nullptr), fetched));
  const TimePoint before = clock_.now();
  ASSERT_TRUE(offer({block(2, 1000)}));
  step_until([&] { return fetched.has_value(); });
  EXPECT_TRUE(node1_.stores.empty());
  step_until([&] { return !node1_.stores.empty(); });
  EXPECT_LT(clock_.now() - before, BackgroundStore::kStandAside);
  settle();
}

TEST_F(Background, AnOfferThatWaitsIsWithdrawnAtOnce) {
  begin();
  node1_.mood = Mood::hang;
  ASSERT_TRUE(offer({block(1, 1000)}));
  const Result<std::uint64_t> second = offer({block(2, 1000)});
  run_for(milliseconds(10));
  core_->background().withdraw(*second);
  ASSERT_EQ(ended_.size(), 1U);
  EXPECT_EQ(ended_[0].items[0].why, Errc::cancelled);
  EXPECT_EQ(order_, std::vector<std::size_t>{1});
  core_->background().withdraw(*second);
  core_->background().withdraw(12345);
  settle();
}

TEST_F(Background, TheOfferThatIsBeingStoredComesBackWhenItsMemoryIsQuiet) {
  begin();
  node1_.mood = Mood::hang;
  const Result<std::uint64_t> first = offer({block(1, kMiB), block(2, 3 * kMiB)});
  step_until([&] { return !node1_.stores.empty(); });
  run_for(milliseconds(10));
  core_->background().withdraw(*first);
  settle();
  EXPECT_EQ(ended_[0].items[0].why, Errc::cancelled);
  EXPECT_EQ(ended_[0].items[1].why, Errc::cancelled);
  EXPECT_EQ(node1_.stores.size(), 1U);
  EXPECT_EQ(stats().queued_bytes, 0U);
}

TEST_F(Background, ClosingGivesBackWhatWaits) {
  begin();
  for (unsigned number = 0; number < 4; ++number) ASSERT_TRUE(offer({block(number, kMiB)}));
  step_until([&] { return !node1_.stores.empty(); });
  stop();
  EXPECT_EQ(waiting_, 0U);
  ASSERT_EQ(ended_.size(), 4U);
  EXPECT_TRUE(ended_.back().items[0].ok) << "what was under way has ended";
  EXPECT_EQ(
      std::count_if(ended_.begin(), ended_.end(),
                    [](const TransferReport& r) { return r.items[0].why == Errc::cancelled; }),
      3);
}

/// Offers by ids of a layout of 4 planes of 256 KiB: blocks of 1 MiB.
class BackgroundLayout : public Background {
 protected:
  static constexpr std::size_t kPiece = kMiB / 4;
  static constexpr std::uint32_t kIds = 12;

  BackgroundLayout() : cache_(content(kIds * kMiB, 3)), layout_(planes()) {}
  RegisteredLayout planes() {
    Layout layout;
    layout.blocks = kIds;
    for (std::size_t plane = 0; plane < 4; ++plane) {
      layout.planes.push_back({cache_.data() + plane * kIds * kPiece, kPiece, kPiece});
    }
    return RegisteredLayout(LayoutGeometry::check(layout).value());
  }
  [[nodiscard]] std::vector<std::byte> in_cache(std::uint32_t id) const {
    std::vector<std::byte> bytes;
    for (std::size_t plane = 0; plane < 4; ++plane) {
      const auto at = cache_.begin() + static_cast<std::ptrdiff_t>((plane * kIds + id) * kPiece);
      bytes.insert(bytes.end(), at, at + static_cast<std::ptrdiff_t>(kPiece));
    }
    return bytes;
  }
  /// Blocks numbered from 1 on that lie under these ids.
  Result<std::uint64_t> offer_ids(const std::vector<std::uint32_t>& ids) {
    std::vector<BlockHash> hashes;
    for (unsigned number = 1; number <= ids.size(); ++number) hashes.push_back(hash_of(number));
    Result<StoreList> list = StoreList::of(layout_, {.hashes = hashes, .ids = ids});
    if (!list) return fail(list.error());
    return offer(std::move(*list));
  }

  std::vector<std::byte> cache_;
  RegisteredLayout layout_;
};

TEST_F(BackgroundLayout, BlocksOfALayoutAreStoredFromTheirIdsAChunkAtATime) {
  begin();
  const std::vector<std::uint32_t> ids = {7, 0, 11, 3, 4};
  ASSERT_TRUE(offer_ids(ids));
  EXPECT_EQ(stats().queued_bytes, 5 * kMiB);
  settle();
  ASSERT_EQ(ended_.size(), 1U);
  EXPECT_EQ(ended_[0].ok_count(), 5U);
  for (unsigned i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(node1_.stored.at(key_of(i + 1)), in_cache(ids[i])) << i;
  }
  EXPECT_EQ(stats().stored, 5U);
  EXPECT_EQ(stats().queued_items + stats().queued_bytes, 0U);
}

TEST_F(BackgroundLayout, TheBoundCountsTheLayoutsBytes) {
  begin();
  EXPECT_EQ(offer_ids({0, 1, 2, 3, 4, 5, 6, 7, 8}).error().code, Errc::out_of_capacity);
  EXPECT_EQ(stats().shed, 9U);
  EXPECT_TRUE(offer_ids({0, 1, 2, 3, 4, 5, 6, 7}));
  settle();
}

TEST_F(BackgroundLayout, IdsOutsideTheLayoutAreRefusedAndThoseThatComeTwiceAreNot) {
  begin();
  EXPECT_EQ(offer_ids({1, kIds}).error().code, Errc::invalid_argument);
  EXPECT_EQ(offer_ids({0xffffffff}).error().code, Errc::invalid_argument);
  EXPECT_TRUE(offer_ids({5, 5})) << "it is only read";
  settle();
  EXPECT_EQ(ended_.at(0).ok_count(), 2U);
  EXPECT_EQ(stats().shed, 0U) << "what is refused was never offered";
}

TEST_F(BackgroundLayout, WhatWaitsIsGivenBackAtTheEnd) {
  begin();
  node1_.mood = Mood::hang;
  ASSERT_TRUE(offer_ids({0, 1, 2}));
  ASSERT_TRUE(offer_ids({3, 4}));
  run_for(milliseconds(10));
  stop();
  ASSERT_EQ(ended_.size(), 2U);
  EXPECT_EQ(ended_[0].items.at(1).why, Errc::cancelled) << "the second offer came back first";
}

TEST_F(Background, WhileTheServerIsAwayOffersFailAndNothingStalls) {
  begin();
  shard_.close(shard_.last_peer);
  shard_.deny = true;
  step_until([&] { return !core_->connected(); });
  run_for(milliseconds(1));
  const TimePoint before = clock_.now();
  ASSERT_TRUE(offer({block(1, kMiB)}));
  settle();
  EXPECT_EQ(ended_[0].items[0].why, Errc::unavailable);
  EXPECT_LT(clock_.now() - before, milliseconds(1));
}

}  // namespace
}  // namespace membrain::client_test
