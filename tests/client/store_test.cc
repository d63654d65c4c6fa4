// Store: blocks reach the node that placement names, and every item says what became of it.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/client/fake_cluster.h"

namespace membrain::client_test {
namespace {

using Mood = FakeNode::Mood;
using wire::ItemStatus;

class Store : public ClientTest {
 protected:
  /// A block of its own memory, kept until the test ends.
  StoreItem block(unsigned number, std::size_t size) {
    StoreItem item;
    item.hash = hash_of(number);
    memory_.push_back(content(size, number));
    item.from = {{memory_.back().data(), size}};
    return item;
  }
  /// How one stored block ended while the node says `status`.
  ItemOutcome outcome_of(ItemStatus status) {
    node1_.store_status = node2_.store_status = status;
    return store({block(1, 1000)})->items.at(0);
  }
  std::list<std::vector<std::byte>> memory_;
};

TEST_F(Store, SmallBlocksTravelInBatchesAndLargeOnesAlone) {
  shard_.nodes = {&node1_};
  begin();
  std::vector<StoreItem> items;
  std::uint64_t bytes = 0;
  for (unsigned number = 0; number < 70; ++number) items.push_back(block(number, 100 + number));
  for (unsigned number = 70; number < 73; ++number) items.push_back(block(number, 128 * 1024));
  for (unsigned number = 73; number < 93; ++number) items.push_back(block(number, 100'000));
  for (const StoreItem& item : items) bytes += item.from[0].size;
  items[1].parent = items[0].hash;
  items[1].depth = 1;
  items[1].priority = 3;
  const Result<TransferReport> report = store(items);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), items.size());
  EXPECT_EQ(report->bytes, bytes);
  EXPECT_EQ(report->lane_bytes.at("sim"), bytes);
  std::vector<std::size_t> counts;
  for (const wire::Store& message : node1_.stores) counts.push_back(message.items.size());
  std::sort(counts.begin(), counts.end());
  EXPECT_EQ(counts, (std::vector<std::size_t>{1, 1, 1, 6, 10, 10, 32, 32}));
  for (unsigned number = 0; number < 93; ++number) {
    const auto kept = node1_.stored.find(key_of(number));
    ASSERT_NE(kept, node1_.stored.end());
    EXPECT_EQ(kept->second, *std::next(memory_.begin(), number));
  }
  const auto& batch = *std::find_if(node1_.stores.begin(), node1_.stores.end(), [&](const auto& m) {
    return m.items[0].meta.key == key_of(0);
  });
  EXPECT_FALSE(batch.items[0].meta.parent);
  EXPECT_EQ(batch.items[1].meta.parent, key_of(0));
  EXPECT_EQ(batch.items[1].meta.depth, 1U);
  EXPECT_EQ(batch.items[1].meta.priority, 3U);
  EXPECT_EQ(batch.items[1].meta.era, Era{7});
}

TEST_F(Store, GathersTheCallersPieces) {
  begin();
  const std::vector<std::byte> pool = content(10'000, 3);
  StoreItem item;
  item.hash = hash_of(1);
  std::vector<std::byte> expected;
  for (std::size_t i = 0; i < 9; ++i) {
    item.from.push_back({pool.data() + i * 1000, 500});
    expected.insert(expected.end(), pool.begin() + static_cast<std::ptrdiff_t>(i * 1000),
                    pool.begin() + static_cast<std::ptrdiff_t>(i * 1000 + 500));
  }
  EXPECT_EQ(store({item})->ok_count(), 1U);
  const auto& stored = node1_.stored.empty() ? node2_.stored : node1_.stored;
  EXPECT_EQ(stored.at(key_of(1)), expected);
}

TEST_F(Store, PrefersANodeOnItsOwnHost) {
  node2_.host = "here";
  begin();
  std::vector<StoreItem> items;
  for (unsigned number = 0; number < 50; ++number) items.push_back(block(number, 100));
  EXPECT_EQ(store(items)->ok_count(), 50U);
  EXPECT_TRUE(node1_.stores.empty());
  EXPECT_EQ(node2_.stored.size(), 50U);
}

TEST_F(Store, SpreadsOverTheNodesOtherwise) {
  begin();
  std::vector<StoreItem> items;
  for (unsigned number = 0; number < 200; ++number) items.push_back(block(number, 100));
  EXPECT_EQ(store(items)->ok_count(), 200U);
  EXPECT_GT(node1_.stored.size(), 60U);
  EXPECT_GT(node2_.stored.size(), 60U);
}

TEST_F(Store, EveryStatusOfANodeIsAnOutcome) {
  begin();
  EXPECT_TRUE(outcome_of(ItemStatus::ok).ok);
  const ItemOutcome duplicate = outcome_of(ItemStatus::duplicate);
  EXPECT_TRUE(duplicate.ok && duplicate.duplicate);
  EXPECT_EQ(outcome_of(ItemStatus::full).why, Errc::out_of_capacity);
  EXPECT_EQ(outcome_of(ItemStatus::too_large).why, Errc::invalid_argument);
  EXPECT_EQ(outcome_of(ItemStatus::old_era).why, Errc::stale);
  EXPECT_EQ(outcome_of(ItemStatus::denied).why, Errc::denied);
  EXPECT_EQ(outcome_of(ItemStatus::unavailable).why, Errc::unavailable);
  EXPECT_EQ(outcome_of(ItemStatus::cancelled).why, Errc::timed_out);
  EXPECT_EQ(outcome_of(ItemStatus::corrupt).why, Errc::corrupt);
  EXPECT_EQ(outcome_of(ItemStatus::refused).why, Errc::unavailable);
  EXPECT_FALSE(outcome_of(ItemStatus::refused).ok);
}

TEST_F(Store, ADuplicateMovesNoBytesIntoTheCache) {
  begin();
  node1_.store_status = node2_.store_status = ItemStatus::duplicate;
  EXPECT_EQ(store({block(1, 1000)})->bytes, 0U);
}

TEST_F(Store, ALostNodeIsReplacedByAnotherOnce) {
  node1_.host = "here";
  node1_.mood = Mood::vanish;
  begin();
  const Result<TransferReport> report = store({block(1, 1000), block(2, 300'000)});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 2U);
  EXPECT_EQ(node2_.stored.size(), 2U);
  node2_.mood = Mood::vanish;
  const Result<TransferReport> again = store({block(3, 1000)});
  ASSERT_TRUE(again);
  EXPECT_EQ(again->items[0].why, Errc::unavailable);
}

TEST_F(Store, WithoutAnyNodeItIsUnavailable) {
  shard_.nodes.clear();
  begin();
  EXPECT_EQ(store({block(1, 1000)})->items[0].why, Errc::unavailable);
  node1_.alive = false;
  shard_.nodes = {&node1_};
  run_for(seconds(2));
  EXPECT_EQ(store({block(1, 1000)})->items[0].why, Errc::unavailable);
  EXPECT_TRUE(node1_.stores.empty());
}

TEST_F(Store, AsksForNewNodesWhenItKnowsNoneThatWorks) {
  shard_.nodes.clear();
  begin();
  run_for(milliseconds(200));
  shard_.nodes = {&node2_};
  EXPECT_EQ(store({block(1, 1000)})->ok_count(), 1U);
}

TEST_F(Store, RefusesABadRequestBeforeAnythingMoves) {
  begin();
  StoreItem item = block(1, 10);
  item.hash = {};
  EXPECT_EQ(store({item}).error().code, Errc::invalid_argument);
  item = block(1, 10);
  item.from.clear();
  EXPECT_EQ(store({item}).error().code, Errc::invalid_argument);
  item.from = {{nullptr, 5}};
  EXPECT_EQ(store({item}).error().code, Errc::invalid_argument);
  item.from = {{memory_.back().data(), SIZE_MAX}};
  EXPECT_EQ(store({item}).error().code, Errc::invalid_argument);
  item = block(1, 10);
  item.part = 64;
  EXPECT_EQ(store({item}).error().code, Errc::invalid_argument);
  EXPECT_TRUE(node1_.stores.empty() && node2_.stores.empty());
}

TEST_F(Store, ANodeThatNeverAnswersTimesOutAtTheDeadline) {
  begin();
  node1_.mood = node2_.mood = Mood::hang;
  TransferOptions options;
  options.timeout = milliseconds(300);
  const TimePoint before = clock_.now();
  const Result<TransferReport> report = store({block(1, 1000)}, options);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->items[0].why, Errc::timed_out);
  EXPECT_LT(clock_.now() - before, milliseconds(310)) << "its bytes were sent: no drain";
}

TEST_F(Store, ASendThatHangsIsReportedOnlyWhenItsMemoryIsTheCallersAgain) {
  shard_.nodes = {&node1_};
  begin();
  const StoreItem item = block(1, 4'000'000);
  std::optional<Result<TransferReport>> result;
  TransferOptions options;
  options.timeout = milliseconds(500);
  const TimePoint before = clock_.now();
  data_loop_.spawn(put_into(core_->store(space_, {item}, options, nullptr), result));
  step_until([&] { return !node1_.stores.empty(); });
  network_.pause("node1");
  step_until([&] { return result.has_value(); });
  ASSERT_TRUE(*result);
  EXPECT_EQ((*result)->items[0].why, Errc::timed_out);
  EXPECT_GE(clock_.now() - before, milliseconds(1300)) << "kDrain";
  EXPECT_LT(clock_.now() - before, milliseconds(1500));
  std::fill(memory_.back().begin(), memory_.back().end(), std::byte{0});
  network_.resume("node1");
  run_for(seconds(2));
  EXPECT_TRUE(node1_.stored.empty());
}

TEST_F(Store, CancelTakesItBack) {
  begin();
  node1_.mood = node2_.mood = Mood::hang;
  auto token = std::make_shared<CancelToken>();
  std::optional<Result<TransferReport>> result;
  std::vector<StoreItem> items;
  for (unsigned number = 0; number < 500; ++number) items.push_back(block(number, 200'000));
  data_loop_.spawn(put_into(core_->store(space_, items, {}, token), result));
  step_until([&] { return node1_.stores.size() + node2_.stores.size() >= 4; });
  token->request();
  step_until([&] { return result.has_value(); });
  EXPECT_EQ(result->error().code, Errc::cancelled);
  // What each node had been sent when it was taken back: no more than a window of 100 messages.
  EXPECT_LE(node1_.stores.size() + node2_.stores.size(), 2 * Storing::kWindow);
}

}  // namespace
}  // namespace membrain::client_test
