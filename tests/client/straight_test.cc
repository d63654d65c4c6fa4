// Payloads that go straight between the network and a GPU's memory: compared there before a page
// is touched, and by the host's memory wherever that cannot be.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "base/checksum.h"
#include "base/log.h"
#include "cache/memory/straight.h"
#include "tests/client/device_fixture.h"

namespace membrain::client_test {
namespace {

using Mood = FakeNode::Mood;

// In sixteens, and to be cut into 1, 3 and 5 pieces.
constexpr std::size_t kSmall = 4800;
constexpr std::size_t kLarge = 201'600;

TEST(StraightPayloads, LandWhereTheConnectionReadsInto) {
  using enum DevicePayloads;
  for (const bool from_device : {false, true}) {
    EXPECT_FALSE(may_land(none, from_device, false));
    EXPECT_EQ(may_land(between_devices, from_device, false), from_device);
    EXPECT_TRUE(may_land(any, from_device, false));
    for (const auto allowed : {none, between_devices, any}) {
      EXPECT_FALSE(may_land(allowed, from_device, true)) << "it is in the host's memory already";
    }
  }
}

TEST(StraightPayloads, LeaveWhereTheReaderReadsThem) {
  using enum DevicePayloads;
  for (const bool into_device : {false, true}) {
    EXPECT_FALSE(may_leave(none, into_device));
    EXPECT_EQ(may_leave(between_devices, into_device), into_device);
    EXPECT_TRUE(may_leave(any, into_device));
  }
}

TEST(StraightPayloads, ShareTheRoomOfASlotAndNeverAByteTwice) {
  std::array<std::byte, 100> memory{};
  DeviceRoom room({memory.data(), memory.size(), nullptr, MemoryKind::cuda});
  const auto first = room.take(60);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->kind, MemoryKind::cuda);
  EXPECT_FALSE(room.take(41));
  EXPECT_FALSE(room.take(~std::uint64_t{0}));
  const auto second = room.take(40);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->data, memory.data() + 60);
  EXPECT_EQ(room.offset_of(second->data), 60U);
  EXPECT_FALSE(room.take(1));
}

class Straight : public DeviceTransfers {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::error);
    DeviceTransfers::SetUp();
    allow(DevicePayloads::any);
  }
  void allow(DevicePayloads payloads, std::uint64_t arrive_bytes = 0) {
    SimDevices devices;
    devices.payloads = payloads;
    devices.arrive_bytes = arrive_bytes;
    devices.is_device = [](const std::byte* at) { return fake::is_device(at); };
    network_.set_devices(std::move(devices));
  }
  [[nodiscard]] std::vector<FetchItem> pages(std::uint32_t count, std::size_t size) {
    std::vector<FetchItem> items;
    for (std::uint32_t i = 0; i < count; ++i) items.push_back(paged(i, size, 1 + i % 3 * 2));
    return items;
  }
  void expect_blocks(const std::vector<FetchItem>& items) const {
    for (std::size_t i = 0; i < items.size(); ++i) {
      ASSERT_EQ(bytes_of(items[i]), expected_[i]) << "block " << i;
    }
  }
  /// So that the client has connections to both nodes.
  void warm_up() {
    std::vector<StoreItem> items;
    for (unsigned i = 1000; i < 1016; ++i) items.push_back(block(i, paged(0, 4096, 1)));
    ASSERT_EQ(store(items, on_gpu())->ok_count(), 16U);
    ASSERT_FALSE(node1_.stored.empty() || node2_.stored.empty());
  }
  [[nodiscard]] const std::vector<std::byte>& stored(unsigned number) {
    const BlockKey key = key_of(number);
    return node1_.stored.contains(key) ? node1_.stored.at(key) : node2_.stored[key];
  }
};

// ---- fetches

TEST_F(Straight, BlocksLandOnTheGpuAndGoFromThereToTheirPages) {
  constexpr std::size_t kSize = 81'600;
  const Match match = published(50, kSize);
  const std::vector<FetchItem> items = pages(50, kSize);
  std::vector<std::byte> wanted = held(0, kCacheBytes);
  for (std::size_t i = 0; i < items.size(); ++i) {
    std::size_t done = 0;
    for (const Piece& piece : items[i].into) {
      std::memcpy(wanted.data() + (static_cast<std::byte*>(piece.data) - at(0)),
                  expected_[i].data() + done, piece.size);
      done += piece.size;
    }
  }
  std::vector<int> told(50);
  TransferOptions options = on_gpu();
  options.on_item = [&](std::size_t item, const ItemOutcome& outcome) {
    told.at(item) += outcome.ok ? 1 : 100;
  };
  const Result<TransferReport> report = fetch(match, items, options);
  ASSERT_TRUE(report) << report.error().context;
  EXPECT_EQ(report->ok_count(), 50U);
  EXPECT_EQ(report->bytes, 50 * kSize);
  EXPECT_EQ(report->lane_bytes, (std::map<std::string, std::uint64_t>{{"sim_gpu", 50 * kSize}}));
  EXPECT_EQ(std::ranges::count(told, 1), 50);
  EXPECT_EQ(network_.stats().received_into_devices, network_.stats().payloads);
  EXPECT_TRUE(held(0, kCacheBytes) == wanted) << "something else was touched";
}

TEST_F(Straight, WhatComesWrongIsFoundByTheGpuAndFetchedOnceMore) {
  const Match match = published(3, kSmall);
  const std::vector<FetchItem> items = pages(3, kSmall);
  SimFaults faults;
  faults.bit_flip = 1;
  network_.set_faults(faults);
  launch(match, items, on_gpu());
  step_until([&] { return network_.stats().flipped != 0; });
  network_.set_faults({});
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->ok_count(), 3U);
  expect_blocks(items);
  EXPECT_EQ((*end_)->bytes, 3U * kSmall);
  EXPECT_GT((*end_)->lane_bytes.at("sim"), 0U) << "by the host's memory, the second time";
}

TEST_F(Straight, NoWrongByteReachesAPage) {
  const Match match = published(6, kSmall);
  const std::vector<FetchItem> items = pages(6, kSmall);
  const std::vector<std::byte> before = held(0, kCacheBytes);
  node1_.mood = Mood::corrupt;
  const Result<TransferReport> report = fetch(match, items, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 0U);
  EXPECT_EQ(report->bytes, 0U);
  for (const ItemOutcome& item : report->items) EXPECT_EQ(item.why, Errc::corrupt);
  EXPECT_GT(network_.stats().received_into_devices, 0U);
  EXPECT_TRUE(held(0, kCacheBytes) == before);
  step_until([&] { return !node1_.suspects.empty(); });
}

TEST_F(Straight, WhatTheGpuCannotHashComesByTheHost) {
  const Match match = published(3, 1001);
  const std::vector<FetchItem> items = {paged(0, 1001, 1), paged(1, 1001, 7), paged(2, 1001, 1)};
  const Result<TransferReport> report = fetch(match, items, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 3U);
  expect_blocks(items);
  EXPECT_EQ(report->lane_bytes.at("sim"), 3003U);
  EXPECT_EQ(network_.stats().received_into_devices, 0U);
}

TEST_F(Straight, PartsOfBlocksComeByTheHost) {
  const Match match = published(1, 8192);
  FetchItem item = paged(0, 4096, 2);
  item.offset = 1024;
  item.length = 4096;
  const Result<TransferReport> report = fetch(match, {item}, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 1U);
  EXPECT_EQ(bytes_of(item), std::vector<std::byte>(expected_[0].begin() + 1024,
                                                   expected_[0].begin() + 1024 + 4096));
  EXPECT_EQ(network_.stats().received_into_devices, 0U) << "nothing to compare it with";
}

TEST_F(Straight, WhatCameWithItsMessageIsTakenFromTheHost) {
  allow(DevicePayloads::any, 10'000);
  published(4, 4096);
  for (unsigned i = 4; i < 8; ++i) expected_.push_back(publish(i, 64'000, {&node1_}));
  node1_.items_per_data = 1;
  const Match match = lookup({0, 1, 2, 3, 4, 5, 6, 7}).value();
  std::vector<FetchItem> items;
  for (std::uint32_t i = 0; i < 8; ++i) items.push_back(paged(i, i < 4 ? 4096 : 64'000, 2));
  const Result<TransferReport> report = fetch(match, items, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 8U);
  expect_blocks(items);
  EXPECT_EQ(report->lane_bytes.at("sim"), 4U * 4096);
  EXPECT_EQ(report->lane_bytes.at("sim_gpu"), 4U * 64'000);
}

TEST_F(Straight, TheHostsMemoryOfANodeDoesNotComeOverALinkOfGpus) {
  allow(DevicePayloads::between_devices);
  const Match match = published(2, kSmall);
  const std::vector<FetchItem> items = pages(2, kSmall);
  const Result<TransferReport> report = fetch(match, items, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 2U);
  expect_blocks(items);
  EXPECT_EQ(network_.stats().received_into_devices, 0U);
}

TEST_F(Straight, ATimeOutAmidAReceiveWaitsUntilNothingCanLand) {
  SimFaults slow;
  slow.bytes_per_second = 1'000'000;
  network_.set_faults(slow);
  const Match match = published(1, 400'000);
  const std::vector<FetchItem> items = pages(1, 400'000);
  const std::vector<std::byte> before = bytes_of(items[0]);
  launch(match, items, on_gpu(milliseconds(50)));
  step_until([&] { return network_.stats().received_into_devices != 0; });
  network_.pause("node1");
  const TimePoint begun = clock_.now();
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->items[0].why, Errc::timed_out);
  EXPECT_GE(clock_.now() - begun, milliseconds(790)) << "the receive was given time to end";
  EXPECT_EQ(bytes_of(items[0]), before);
  // The slot serves others now: nothing of the first may land in it.
  network_.set_faults({});
  network_.resume("node1");
  expected_[0] = publish(77, 262'144, {&node2_});
  const Match next = lookup({77}).value();
  const FetchItem other = paged(0, 262'144, 4);
  ASSERT_EQ(fetch(next, {other}, on_gpu())->ok_count(), 1U);
  EXPECT_EQ(bytes_of(other), expected_[0]);
}

TEST_F(Straight, ABlockThatBreaksOffIsFetchedElsewhere) {
  SimFaults slow;
  slow.bytes_per_second = 10'000'000;
  network_.set_faults(slow);
  for (unsigned i = 0; i < 4; ++i) expected_.push_back(publish(i, kLarge, {&node1_, &node2_}));
  const Match match = lookup({0, 1, 2, 3}).value();
  const std::vector<FetchItem> items = pages(4, kLarge);
  launch(match, items, on_gpu());
  step_until([&] { return network_.stats().received_into_devices != 0; });
  network_.kill("node1");
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->ok_count(), 4U);
  expect_blocks(items);
}

TEST_F(Straight, ASilentNodesBlocksAreNotHedgedAndGoElsewhereWhenPatienceEnds) {
  constexpr unsigned kBlocks = 8;
  std::vector<unsigned> numbers;
  for (unsigned i = 0; i < kBlocks; ++i) {
    numbers.push_back(i);
    expected_.push_back(publish(i, kSmall, {&node1_, &node2_}));
  }
  const Match match = lookup(numbers).value();
  const std::vector<FetchItem> items = pages(kBlocks, kSmall);
  node1_.mood = Mood::hang;
  const TimePoint before = clock_.now();
  const Result<TransferReport> report = fetch(match, items, on_gpu());
  ASSERT_TRUE(report);
  ASSERT_EQ(node1_.fetches.size(), 1U);
  EXPECT_EQ(report->ok_count(), kBlocks);
  expect_blocks(items);
  EXPECT_EQ(report->detours.hedged, 0U) << "a copy in the host's memory is of no use there";
  EXPECT_EQ(report->detours.retried, node1_.fetches.front().second.items.size());
  EXPECT_EQ(report->lane_bytes.at("sim_gpu"), kBlocks * kSmall);
  EXPECT_LE(clock_.now() - before, LaneModel::kUnknownPatience + milliseconds(100));
}

TEST_F(Straight, AFetchThatIsTakenBackEndsWhenItsReceivesHave) {
  const Match match = published(1, 400'000);
  const std::vector<FetchItem> items = pages(1, 400'000);
  const std::vector<std::byte> before = bytes_of(items[0]);
  launch(match, items, on_gpu());
  step_until([&] { return network_.stats().received_into_devices != 0; });
  token_->request();
  settle();
  ASSERT_FALSE(*end_);
  EXPECT_EQ(end_->error().code, Errc::cancelled);
  EXPECT_EQ(bytes_of(items[0]), before);
}

TEST_F(Straight, FetchesSurviveAnyFailedCallOfTheDriver) {
  constexpr std::size_t kSize = 300'000;
  const Match match = published(8, kSize);
  std::vector<FetchItem> items;
  for (std::uint32_t i = 0; i < 8; ++i) items.push_back(paged(i, kSize, 5));
  const std::uint64_t before = fake::calls();
  ASSERT_EQ(fetch(match, items, on_gpu())->ok_count(), 8U);
  const std::uint64_t needed = fake::calls() - before;
  std::size_t lost = 0;
  for (std::uint64_t call = 0; call < needed; ++call) {
    std::memset(at(0), 0, kCacheBytes);
    fake::fail_call(call, cuda::kOutOfMemory);
    const Result<TransferReport> report = fetch(match, items, on_gpu());
    fake::repair();
    for (std::size_t i = 0; report && i < items.size(); ++i) {
      if (!report->items[i].ok) {
        ++lost;
        continue;
      }
      ASSERT_EQ(bytes_of(items[i]), expected_[i]) << "call " << call;
    }
    if (!report) ++lost;
  }
  EXPECT_GT(lost, 0U);
  EXPECT_EQ(fetch(match, items, on_gpu())->ok_count(), 8U);
}

TEST_F(Straight, AGpuThatFailsAmidAFetchEndsIt) {
  const Match match = published(1, 4096);
  launch(match, pages(1, 4096), on_gpu());
  step_until([&] { return network_.stats().received_into_devices != 0; });
  fake::break_down();
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->items[0].why, Errc::unavailable);
  EXPECT_EQ((*end_)->bytes, 0U);
}

// ---- stores

TEST_F(Straight, BlocksAreStoredFromTheGpuWithTheChecksumsThatItMade) {
  warm_up();
  ASSERT_EQ(network_.stats().sent_from_devices, 0U) << "who is not connected gets them staged";
  node1_.stores.clear();
  node2_.stores.clear();
  std::vector<StoreItem> items;
  std::vector<FetchItem> from;
  for (unsigned i = 0; i < 40; ++i) {
    from.push_back(paged(i, 70'560, 1 + i % 5 * 2));
    items.push_back(block(i, from.back()));
  }
  const Result<TransferReport> report = store(items, on_gpu());
  ASSERT_TRUE(report) << report.error().context;
  EXPECT_EQ(report->ok_count(), 40U);
  EXPECT_EQ(report->lane_bytes, (std::map<std::string, std::uint64_t>{{"sim_gpu", 40 * 70'560}}));
  EXPECT_EQ(network_.stats().sent_from_devices, 40U);
  for (unsigned i = 0; i < 40; ++i) ASSERT_EQ(stored(i), bytes_of(from[i])) << i;
  for (const FakeNode* node : {&node1_, &node2_}) {
    for (const wire::Store& store : node->stores) {
      ASSERT_EQ(store.items.size(), 1U);
      EXPECT_EQ(store.items[0].checksum, checksum(node->stored.at(store.items[0].meta.key)));
    }
  }
}

TEST_F(Straight, BlocksThatTheGpuCannotHashAreStoredByTheHost) {
  warm_up();
  const FetchItem from = paged(0, 1001, 1);
  const Result<TransferReport> report = store({block(1, from)}, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->lane_bytes.at("sim"), 1001U);
  EXPECT_EQ(stored(1), bytes_of(from));
}

TEST_F(Straight, ALinkOfGpusCarriesNoStores) {
  allow(DevicePayloads::between_devices);
  warm_up();
  const FetchItem from = paged(0, 4096, 2);
  ASSERT_EQ(store({block(1, from)}, on_gpu())->ok_count(), 1U);
  EXPECT_EQ(network_.stats().sent_from_devices, 0U);
  EXPECT_EQ(stored(1), bytes_of(from));
}

TEST_F(Straight, WhatANodeDoesNotTakeIsOfferedOnceMoreAndEndsOnce) {
  warm_up();
  for (FakeNode* node : {&node1_, &node2_}) node->store_status = wire::ItemStatus::unavailable;
  const std::size_t before = node1_.stores.size() + node2_.stores.size();
  int told = 0;
  TransferOptions options = on_gpu();
  options.on_item = [&](std::size_t, const ItemOutcome&) { ++told; };
  const Result<TransferReport> report = store({block(1, paged(0, 4096, 2))}, options);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->items[0].why, Errc::unavailable);
  EXPECT_EQ(told, 1);
  EXPECT_EQ(node1_.stores.size() + node2_.stores.size() - before, 2U);
}

TEST_F(Straight, AStoreWhoseNodeVanishesGoesToTheOther) {
  warm_up();
  std::vector<StoreItem> items;
  std::vector<FetchItem> from;
  for (unsigned i = 0; i < 8; ++i) {
    from.push_back(paged(i, 200'000, 4));
    items.push_back(block(i, from.back()));
  }
  node1_.mood = Mood::vanish;
  const Result<TransferReport> report = store(items, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 8U);
  for (unsigned i = 0; i < 8; ++i) ASSERT_EQ(node2_.stored.at(key_of(i)), bytes_of(from[i])) << i;
}

TEST_F(Straight, AStoreThatHangsHoldsItsSlotUntilTheConnectionIsClosed) {
  warm_up();
  SimFaults slow;
  slow.bytes_per_second = 100'000;
  network_.set_faults(slow);
  launch_store({block(1, paged(0, 400'000, 4))}, on_gpu(milliseconds(50)));
  step_until([&] { return network_.stats().sent_from_devices != 0; });
  network_.pause("node1");
  network_.pause("node2");
  const TimePoint begun = clock_.now();
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->items[0].why, Errc::timed_out);
  EXPECT_GE(clock_.now() - begun, milliseconds(790));
  network_.resume("node1");
  network_.resume("node2");
}

TEST_F(Straight, StoresSurviveAnyFailedCallOfTheDriver) {
  warm_up();
  std::vector<StoreItem> items;
  std::vector<FetchItem> from;
  for (unsigned i = 0; i < 6; ++i) {
    from.push_back(paged(i, 200'000, 5));
    items.push_back(block(i, from.back()));
  }
  const std::uint64_t before = fake::calls();
  ASSERT_EQ(store(items, on_gpu())->ok_count(), 6U);
  const std::uint64_t needed = fake::calls() - before;
  std::size_t lost = 0;
  for (std::uint64_t call = 0; call < needed; ++call) {
    node1_.stored.clear();
    node2_.stored.clear();
    fake::fail_call(call, cuda::kOutOfMemory);
    const Result<TransferReport> report = store(items, on_gpu());
    fake::repair();
    if (!report) ++lost;
    for (unsigned i = 0; report && i < items.size(); ++i) {
      if (!report->items[i].ok) {
        ++lost;
      } else {
        ASSERT_EQ(stored(i), bytes_of(from[i])) << "call " << call;
      }
    }
  }
  EXPECT_GT(lost, 0U);
}

}  // namespace
}  // namespace membrain::client_test
