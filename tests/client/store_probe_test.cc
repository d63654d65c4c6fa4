// A store asks first: what the shard knows does not move.
#include <gtest/gtest.h>

#include <algorithm>

#include "cache/client/store.h"
#include "tests/client/fake_cluster.h"

namespace membrain::client_test {
namespace {

constexpr std::size_t kLarge = 512 * 1024;

class StoreProbe : public ClientTest {
 protected:
  StoreProbe() { config_.probe_store_bytes = kLarge; }
  StoreItem block(unsigned number, std::size_t size, std::uint16_t part = 0) {
    StoreItem item;
    item.hash = hash_of(number);
    item.part = part;
    memory_.push_back(content(size, number));
    item.from = {{memory_.back().data(), size}};
    return item;
  }
  std::list<std::vector<std::byte>> memory_;
};

TEST_F(StoreProbe, NoPayloadMovesForBlocksThatExistAnywhere) {
  node1_.host = "here";
  begin();
  publish(1, 1000, {&node2_});
  publish(2, 1000, {&node2_});
  const std::uint64_t payloads = network_.stats().payloads;
  const Result<TransferReport> report = store({block(1, kLarge), block(2, kLarge)});
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->items[0].duplicate && report->items[1].duplicate);
  EXPECT_EQ(report->ok_count(), 2U);
  EXPECT_EQ(report->bytes, 0U);
  EXPECT_EQ(network_.stats().payloads, payloads);
  EXPECT_TRUE(node1_.stores.empty() && node2_.stores.empty());
  ASSERT_EQ(shard_.probes.size(), 1U) << "one message for the batch";
  EXPECT_EQ(shard_.probes[0].era, Era{7});
}

TEST_F(StoreProbe, OnlyWhatIsMissingIsSent) {
  shard_.nodes = {&node1_};
  begin();
  publish(2, 1000, {&node1_});
  std::vector<std::size_t> told;
  TransferOptions options;
  options.on_item = [&](std::size_t item, const ItemOutcome&) { told.push_back(item); };
  const std::vector<StoreItem> items = {block(1, kLarge), block(2, kLarge), block(3, 100)};
  const Result<TransferReport> report = store(items, options);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 3U);
  EXPECT_FALSE(report->items[0].duplicate || report->items[2].duplicate);
  EXPECT_TRUE(report->items[1].duplicate);
  EXPECT_EQ(report->bytes, kLarge + 100);
  EXPECT_TRUE(node1_.stored.contains(key_of(1)) && node1_.stored.contains(key_of(3)));
  EXPECT_FALSE(node1_.stored.contains(key_of(2)));
  EXPECT_EQ(told.size(), 3U);
  EXPECT_EQ(told.front(), 1U) << "what is there is told at once";
}

TEST_F(StoreProbe, EachPartIsAskedForByItself) {
  begin();
  publish(1, 1000, {&node1_}, 0);
  const Result<TransferReport> report = store({block(1, kLarge, 0), block(1, kLarge, 1)});
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->items[0].duplicate);
  EXPECT_FALSE(report->items[1].duplicate);
  EXPECT_EQ(report->ok_count(), 2U);
}

TEST_F(StoreProbe, ASmallStoreGoesWithoutAsking) {
  begin();
  EXPECT_EQ(store({block(1, kLarge - 1)})->ok_count(), 1U);
  EXPECT_TRUE(shard_.probes.empty());
}

TEST_F(StoreProbe, WithoutAnAnswerInTimeEverythingIsSent) {
  begin();
  shard_.deaf_to_probes = true;
  publish(1, 1000, {&node1_});
  const TimePoint before = clock_.now();
  const Result<TransferReport> report = store({block(1, kLarge), block(2, kLarge)});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 2U);
  EXPECT_EQ(node1_.stored.size() + node2_.stored.size(), 2U);
  EXPECT_LT(clock_.now() - before, Storing::kProbePatience + milliseconds(5));
}

TEST_F(StoreProbe, AnAnswerThatIsTooShortSaysNothingOfTheRest) {
  begin();
  publish(1, 1000, {&node1_});
  std::vector<StoreItem> items;
  for (unsigned number = 1; number <= 9; ++number) items.push_back(block(number, kLarge / 8));
  shard_.short_probe_answers = true;
  const Result<TransferReport> report = store(items);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 9U);
  EXPECT_EQ(node1_.stored.size() + node2_.stored.size(), 8U);
}

TEST_F(StoreProbe, AStoreOfMoreThanOneMessageAsksInSeveral) {
  begin();
  std::vector<StoreItem> items;
  const unsigned count = wire::kMaxKeys + 10;
  for (unsigned number = 0; number < count; ++number) items.push_back(block(number, 128));
  publish(count - 1, 1000, {&node1_});
  const Result<TransferReport> report = store(items);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), count);
  EXPECT_EQ(shard_.probes.size(), 2U);
  EXPECT_TRUE(report->items.back().duplicate);
}

TEST_F(StoreProbe, CancelWhileItAsksMovesNothing) {
  begin();
  shard_.deaf_to_probes = true;
  auto token = std::make_shared<CancelToken>();
  std::optional<Result<TransferReport>> result;
  const StoreItem item = block(1, kLarge);
  data_loop_.spawn(put_into(core_->store(space_, {item}, {}, token), result));
  step_until([&] { return !shard_.probes.empty(); });
  token->request();
  step_until([&] { return result.has_value(); });
  EXPECT_EQ(result->error().code, Errc::cancelled);
  EXPECT_TRUE(node1_.stores.empty() && node2_.stores.empty());
}

}  // namespace
}  // namespace membrain::client_test
